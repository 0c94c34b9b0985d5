#!/bin/sh
# rootfs.sh TO: copies only the files of Debian that the binaries and ONNX Runtime need: the C and C++ libraries, certificates
# and a user. There is no shell and no package manager; `kubectl debug` adds tools to a pod.
set -eu
mkdir -p "$1"
to=$(cd "$1" && pwd)
# `cp --parents` looks for the parents of /lib/… in the working folder.
cd /
mkdir -p "$to/usr/lib" "$to/etc/ssl/certs" "$to/tmp" "$to/var/lib/dpkg/status.d"
chmod 1777 "$to/tmp"
ln -s usr/lib "$to/lib"
if [ -d /lib64 ]; then
    mkdir "$to/usr/lib64"
    ln -s usr/lib64 "$to/lib64"
fi

for package in libc6 libgcc-s1 libstdc++6; do
    # Without glibc's character set tables and debugging hooks, which no program here uses.
    dpkg -L "$package" | grep -E '\.so(\.|$)' | grep -vE '/(gconv|audit)/' | while read -r file; do
        if [ -e "$file" ]; then cp -a --parents "$file" "$to"; fi
    done
    # Image scanners read the installed packages from this file.
    dpkg -s "$package" >"$to/var/lib/dpkg/status.d/$package"
done

cp /etc/ssl/certs/ca-certificates.crt "$to/etc/ssl/certs/"
cp /etc/os-release "$to/etc/"
# Without it glibc asks the name server before it looks into /etc/hosts.
echo 'hosts: files dns' >"$to/etc/nsswitch.conf"
echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' >"$to/etc/passwd"
echo 'nonroot:x:65532:' >"$to/etc/group"
