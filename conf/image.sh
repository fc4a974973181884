#!/bin/sh
# Puts built programs into the image of conf/Containerfile, and the image into an archive that every runtime loads:
#
#   conf/image.sh FOLDER ARCHIVE [LIMIT]
#
# Needs buildah and nothing that is not on this machine: no daemon, no registry, no mount. What buildah keeps is in a folder beside
# the archive, gone at the end. The same programs give the same bytes. Above LIMIT bytes it fails.
set -eu
programs=$(realpath "$1")
archive=$(realpath "$2")
limit=${3:-}
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

work=$(mktemp -d "$archive.XXXXXX")
# root's buildah has one more file, whose place cannot be chosen.
cache=/var/lib/containers/cache
[ -e "$cache" ] && known=yes || known=
clean() {
	rm -rf "$work"
	if [ -z "$known" ] && [ -d "$cache" ]; then
		rm -f "$cache"/blob-info-cache-*
		rmdir "$cache" "${cache%/*}" || true
	fi
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# Else it leaves a lock in /etc/cni/net.d.
printf '[network]\nnetwork_config_dir = "%s"\n' "$work/networks" >"$work/containers.conf"
mkdir "$work/tmp" "$work/programs" "$work/programs/names"
cp "$programs/heddle-cni" "$programs/heddle-node" "$work/programs"
ln -s heddle-node "$work/programs/names/heddle-proxy"
export CONTAINERS_CONF="$work/containers.conf" TMPDIR="$work/tmp" XDG_DATA_HOME="$work" XDG_CACHE_HOME="$work"
# Layers of programs that did not change must not: no time of this build is in them.
buildah --root "$work/root" --runroot "$work/run" --storage-driver vfs --short-name-alias-conf "$work/aliases" \
	build --quiet --isolation chroot --layers --timestamp "${SOURCE_DATE_EPOCH:-0}" --identity-label=false \
	--build-context "programs=$work/programs" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
	--file conf/Containerfile --tag "docker-archive:$work/image.tar:docker.io/library/heddle:$version" . >/dev/null
chmod 644 "$work/image.tar"
mv -f "$work/image.tar" "$archive"

for file in "$programs/heddle-cni" "$programs/heddle-node" "$archive"; do
	size=$(wc -c <"$file")
	printf '%10d  %s\n' "$size" "${file##*/}"
done
if [ -n "$limit" ] && [ "$size" -gt "$limit" ]; then
	echo "$archive: more than $limit bytes" >&2
	exit 1
fi
