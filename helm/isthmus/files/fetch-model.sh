#!/bin/sh
# Brings a model from SOURCE (an https:// blob prefix, or a mounted directory) into TARGET.
#
# SOURCE holds SHA256SUMS beside the model's files. A copy that was verified before is kept, one that
# was broken off is taken up again, and nothing is called complete before every checksum holds.
set -eu

fail() {
  echo "fetch-model: $*" >&2
  exit 1
}

copy() {
  case $SOURCE in
    https://*) azcopy sync "$SOURCE" "$TARGET" --recursive=true --delete-destination=false ;;
    *)
      [ -d "$SOURCE" ] || fail "$SOURCE is not on the share; fill it first (modelStorage.share.fill)."
      # -u keeps what an earlier try brought; a torn file is found by its checksum.
      cp -Ru "$SOURCE/." "$TARGET/"
      ;;
  esac
}

verify() {
  [ -f "$TARGET/SHA256SUMS" ] ||
    fail "$SOURCE holds no SHA256SUMS; make it with: sha256sum * > SHA256SUMS"
  (cd "$TARGET" && sha256sum --check --quiet SHA256SUMS)
}

forget_broken() {
  (cd "$TARGET" && sha256sum --check SHA256SUMS 2>/dev/null || true) |
    sed -n 's/: FAILED.*$//p' | while IFS= read -r name; do rm -f "$TARGET/$name"; done
  rm -f "$TARGET/SHA256SUMS"
}

mkdir -p "$TARGET" || fail "cannot write to $TARGET; the volume must be writable for uid $(id -u)."
exec 9>"$TARGET/.lock"
flock 9 # pods on one node share a hostPath cache

if [ -f "$TARGET/.complete" ] && cmp -s "$TARGET/.complete" "$TARGET/SHA256SUMS"; then
  echo "fetch-model: $TARGET is complete"
  exit 0
fi
copy
if ! verify; then
  echo "fetch-model: fetching the broken files again" >&2
  forget_broken
  copy
  verify || fail "checksums still differ; $SOURCE itself is broken, upload it again."
fi
cp "$TARGET/SHA256SUMS" "$TARGET/.complete"
echo "fetch-model: $TARGET verified"
