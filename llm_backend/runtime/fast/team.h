// A team of threads that run the same function side by side and wait for each other inside it.
//
// Between steps they sleep; within one they spin, and yield when a neighbour needs the core: an
// OpenMP barrier spins on instead, and slows down tenfold beside one busy process.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace isthmus {

// Wait for another core: for a moment by spinning, then by yielding.
template <class Condition>
inline void wait_until(Condition&& holds) {
    constexpr int SPINS = 2000;
    for (int spins = 0; !holds(); ++spins) {
        if (spins >= SPINS) {
            std::this_thread::yield();
            continue;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }
}

class Team {
  public:
    explicit Team(int size) : size_(size) {
        for (int i = 1; i < size; ++i) threads_.emplace_back([this, i] { work(i); });
    }

    ~Team() {
        stop_ = true;
        round_.fetch_add(1);
        round_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    int size() const { return size_; }

    // Run `task(member)` on all members, 0 being the caller, and return when all are done.
    void run(const std::function<void(int)>& task) {
        task_ = &task;
        round_.fetch_add(1);
        round_.notify_all();
        task(0);
        barrier();
    }

    // Wait until every member has come here.
    void barrier() {
        if (size_ == 1) return;
        const unsigned phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        wait_until([&] { return phase_.load(std::memory_order_acquire) != phase; });
    }

  private:
    void work(int member) {
        unsigned seen = 0;
        while (true) {
            round_.wait(seen);
            seen = round_.load();
            if (stop_) return;
            (*task_)(member);
            barrier();
        }
    }

    const int size_;
    const std::function<void(int)>* task_ = nullptr;
    std::atomic<unsigned> round_{0}, phase_{0};
    std::atomic<int> arrived_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

// Pieces of work that members take one after the other: whoever is slowed down does less.
class Queue {
  public:
    void reset() { next_.store(0, std::memory_order_relaxed); }

    // Take the next `size` of `count`; return whether any is left.
    bool take(int count, int size, int& begin, int& end) {
        begin = next_.fetch_add(size, std::memory_order_relaxed);
        end = begin + size < count ? begin + size : count;
        return begin < count;
    }

  private:
    alignas(64) std::atomic<int> next_{0};
};

// The part of [0, count) that falls to one of `size` members.
struct Share {
    int begin, end;
    Share(int count, int member, int size)
        : begin(int(long(count) * member / size)), end(int(long(count) * (member + 1) / size)) {}
};

}  // namespace isthmus
