# Shared by the scripts: where things are, and how Debian packages get here. Source it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/emu
mkdir -p "$cache"
export SWIFT_BACKTRACE=${SWIFT_BACKTRACE:-enable=no}

say() { printf '\n== %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The package lists are fetched once a day at most.
refresh_lists() {
    local stamp=$cache/apt-updated
    if [ -z "$(find "$stamp" -mmin -1440 2>/dev/null)" ]; then
        as_root apt-get update -qq
        touch "$stamp"
    fi
}

# need PACKAGE…: installs the Debian packages that are not there, and says so.
need() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing Debian packages: ${missing[*]}"
    refresh_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# unpacked PACKAGE: fetches a Debian package without installing it, and prints where its files are.
unpacked() {
    local package=$1 target=$cache/packages/$1
    if [ ! -e "$target/.complete" ]; then
        say "fetching Debian package $package"
        refresh_lists
        rm -rf "$target"
        mkdir -p "$target"
        (
            cd "$target"
            # apt's download user may not write here: harmless, but it would warn.
            apt-get download -qq -o APT::Sandbox::User=root "$package"
            dpkg -x ./*.deb files
            rm -f ./*.deb
            touch .complete
        ) >&2
    fi
    printf '%s/files\n' "$target"
}

# The newest cloud kernel of this release.
cloud_kernel() {
    refresh_lists
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || { echo "no package linux-image-cloud-amd64: is this Debian 12?" >&2; return 1; }
    ls "$(unpacked "$package")"/boot/vmlinuz-*-cloud-amd64
}

# The newest kernel of this release with drivers of real PCs.
pc_kernel() {
    refresh_lists
    local package
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || { echo "no package linux-image-amd64: is this Debian 12?" >&2; return 1; }
    ls "$(unpacked "$package")"/boot/vmlinuz-*-amd64
}

# The installer's kernel and initrd: installer amd64|i386 linux|initrd.gz
installer() {
    local arch=$1 file=$2
    ls "$(unpacked "debian-installer-12-netboot-$arch")/usr/lib/debian-installer/images/12/$arch/text/debian-installer/$arch/$file"
}

# SeaBIOS; its VGA BIOS is beside it.
seabios() { ls "$(unpacked seabios)"/usr/share/seabios/bios-256k.bin; }

# initramfs SCRIPT OUT [FILE…]: an initramfs of busybox, with SCRIPT as /init and FILEs in /bin.
initramfs() {
    local script=$1 out=$2
    shift 2
    local busybox tree
    busybox=$(unpacked busybox-static)/bin/busybox
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,dev,proc,sys,tmp,etc}
    cp "$busybox" "$tree/bin/busybox"
    cp "$script" "$tree/init"
    chmod 755 "$tree/init"
    for file in "$@"; do cp "$file" "$tree/bin/"; done
    # The same bytes each time: recordings name the image by its digest.
    find "$tree" -exec touch -h -d @0 {} +
    (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible) | gzip -9n >"$out"
    rm -rf "$tree"
}

# module_initramfs KERNEL SCRIPT OUT MODULE…: an initramfs with MODULEs of the kernel and all that they need; the file
# /bin/modules names them, one a line, in the order in which they can be loaded.
module_initramfs() {
    local kernel=$1 script=$2 out=$3 tree version list module path
    shift 3
    need kmod
    tree=$(cd "$(dirname "$kernel")/.." && pwd)
    version=$(basename "$kernel")
    version=${version#vmlinuz-}
    [ -e "$tree/lib/modules/$version/modules.dep.bin" ] || depmod -b "$tree" "$version"
    list=$(mktemp -d)
    for module in "$@"; do
        modprobe -d "$tree" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' >"$list/paths"
    sed 's|.*/||; s|\.ko$||' "$list/paths" >"$list/modules"
    local files=()
    while read -r path; do files+=("$path"); done <"$list/paths"
    initramfs "$script" "$out" "$list/modules" "${files[@]}"
    rm -rf "$list"
}

# network_initramfs KERNEL OUT: an initramfs with the drivers of network cards that the (cloud) kernel has as modules.
network_initramfs() {
    local modules
    modules=$(cd "$(dirname "$1")/../lib/modules" && pwd)
    local files=()
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net; do
        files+=("$(find "$modules" -name "$module.ko")")
    done
    initramfs "$root/scripts/lib/init-net" "$2" "${files[@]}"
}

# full_kernel: the newest kernel with all drivers, those of USB and sound among them. Its modules are beside it.
full_kernel() {
    refresh_lists
    local package
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || { echo "no package linux-image-amd64: is this Debian 12?" >&2; return 1; }
    ls "$(unpacked "$package")"/boot/vmlinuz-*-amd64
}

# modules_initramfs KERNEL SCRIPT OUT MODULE…: an initramfs with these drivers and what they need; /bin/order names them in
# the order in which they can be loaded. A MODULE with a slash is a file that goes along.
modules_initramfs() {
    local modules order argument wanted=() files=()
    for argument in "${@:4}"; do
        case $argument in */*) files+=("$argument") ;; *) wanted+=("$argument") ;; esac
    done
    modules=$(cd "$(dirname "$1")/../lib/modules" && pwd)
    order=$(mktemp -d)
    python3 - "$modules" "${wanted[@]}" >"$order/order" <<'PY'
import glob, os, re, subprocess, sys
files = {os.path.basename(f)[:-3].replace("-", "_"): f for f in glob.glob(sys.argv[1] + "/**/*.ko", recursive=True)}
found = []

def add(name):
    name = name.replace("-", "_")
    if name in found or name not in files:
        return
    data = open(files[name], "rb").read()
    needed = re.search(rb"\0depends=([^\0]*)\0", data)
    soft = re.search(rb"\0softdep=pre: ([^\0]*)\0", data)
    for other in (needed.group(1).decode().split(",") if needed else []) + (soft.group(1).decode().split() if soft else []):
        add(other)
    found.append(name)

for module in sys.argv[2:]:
    add(module)
print("\n".join(os.path.basename(files[name])[:-3] for name in found))
PY
    while read -r module; do files+=("$(find "$modules" -name "$module.ko")"); done <"$order/order"
    initramfs "$2" "$3" "${files[@]}" "$order/order"
    rm -rf "$order"
}

# The USB tests' initramfs: usb_initramfs KERNEL OUT.
usb_initramfs() {
    modules_initramfs "$1" "$root/scripts/lib/init-usb" "$2" xhci-pci ehci-pci uhci-hcd usb-storage sd_mod crc32c_generic usbhid \
        hid-generic evdev cdc-acm
}

# What the tests are built with: optimised as a whole (they boot real kernels; a debug build is an order of magnitude
# slower), and with what the network's and USB's tests need. Sets $build.
test_traits() {
    build=(-c release -Xswiftc -enable-testing --scratch-path .build-test --traits Slirp,Pcap,USB,NBD)
    need libzstd-dev libslirp-dev libpcap-dev libusb-1.0-0-dev libnbd-dev qemu-utils pkg-config cpio
}

# The program of that build, in $emu.
build_tests() {
    say "building (swift build ${build[*]})"
    (cd "$root" && swift build --product emu "${build[@]}") >&2
    emu=$(cd "$root" && swift build "${build[@]}" --show-bin-path)/emu
}

# The release build. Prints nothing but warnings and errors; the program is $emu afterwards. If EMU names a program, that is
# used, and nothing is built.
build_release() {
    if [ -n "${EMU:-}" ]; then
        emu=$EMU
        return
    fi
    need libzstd-dev pkg-config cpio
    say "building (swift build -c release)"
    (cd "$root" && swift build -c release --product emu) >&2
    emu=$(cd "$root" && swift build -c release --product emu --show-bin-path)/emu
}
