#!/bin/sh
# rootfs.sh TO: the files that our binaries and ONNX Runtime need of Debian, and nothing else: the C and C++ libraries,
# certificates, and a user. No shell and no package manager; `kubectl debug` brings tools where they are wanted.
set -eu
to=$1
mkdir -p "$to/usr/lib" "$to/etc/ssl/certs" "$to/tmp" "$to/var/lib/dpkg/status.d"
chmod 1777 "$to/tmp"
ln -s usr/lib "$to/lib"
if [ -d /lib64 ]; then
    mkdir "$to/usr/lib64"
    ln -s usr/lib64 "$to/lib64"
fi

for package in libc6 libgcc-s1 libstdc++6; do
    # Not the tables of character sets and the debugging hooks of glibc, which nothing here asks for.
    dpkg -L "$package" | grep -E '\.so(\.|$)' | grep -vE '/(gconv|audit)/' | while read -r file; do
        if [ -e "$file" ]; then cp -a --parents "$file" "$to"; fi
    done
    # By this, scanners of images know what is in it.
    dpkg -s "$package" >"$to/var/lib/dpkg/status.d/$package"
done

cp /etc/ssl/certs/ca-certificates.crt "$to/etc/ssl/certs/"
cp /etc/os-release "$to/etc/"
# Without it glibc asks the name server before it looks into /etc/hosts.
echo 'hosts: files dns' >"$to/etc/nsswitch.conf"
echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' >"$to/etc/passwd"
echo 'nonroot:x:65532:' >"$to/etc/group"
