// What the ranks compute parts of is added up: through memory that they share where they are on one
// host, else by a call of Python.
#pragma once

#include <atomic>

#include "interface.h"
#include "team.h"
#include "vector.h"

namespace isthmus {

class RankSum {
  public:
    RankSum(const Shape& shape, const ModelAddresses& model, AllReduce all_reduce)
        : s(shape), model(model), all_reduce(all_reduce), floats(long(shape.max_tokens) * shape.hidden) {}

    // Where this rank's part [tokens, hidden] of the next sum goes.
    float* part() const { return model.shared ? part_of(s.rank, round) : model.partial; }

    // Wait until every rank's part is complete. Called by one member.
    void exchange(int tokens) {
        if (!model.shared) return all_reduce(tokens);
        ++round;
        finished(s.rank).store(round, std::memory_order_release);
        for (int rank = 0; rank < s.ranks; ++rank)
            wait_until([&] { return finished(rank).load(std::memory_order_acquire) >= round; });
    }

    // The sum's lanes i.. after `exchange`, in the same order of ranks on all of them.
    Floats at(long i) const {
        if (!model.shared) return load<Floats>(model.partial + i);
        Floats sum = load<Floats>(part_of(0, round - 1) + i);
        for (int rank = 1; rank < s.ranks; ++rank) sum += load<Floats>(part_of(rank, round - 1) + i);
        return sum;
    }

    // Where this rank's part of the logits goes: rank 0's to the caller, the others' to shared memory.
    float* logits(float* own) const { return model.shared && s.rank > 0 ? logits_of(s.rank) : own; }

    // After `exchange`, and until the first one of the next step.
    float* logits_of(int rank) const {
        return parts() + 2 * s.ranks * floats + (rank - 1) * long(s.max_tokens) * s.columns;
    }

  private:
    // How many sums a rank has computed its part of. Each has a cache line, before all parts.
    std::atomic<uint64_t>& finished(int rank) const {
        return *reinterpret_cast<std::atomic<uint64_t>*>(static_cast<char*>(model.shared) + long(rank) * LINE);
    }

    // Two parts in turns: a rank that is ahead writes one while the others still read the last. Only
    // when all have read that does it get to the next one, since it waits for their parts of this.
    float* part_of(int rank, uint64_t round) const {
        return parts() + (long(rank) * 2 + long(round % 2)) * floats;
    }

    float* parts() const {
        return reinterpret_cast<float*>(static_cast<char*>(model.shared) + long(s.ranks) * LINE);
    }

    const Shape s;
    const ModelAddresses model;
    const AllReduce all_reduce;
    const long floats;
    uint64_t round = 0;
};

}  // namespace isthmus
