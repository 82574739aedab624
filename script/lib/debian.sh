# Shared by the scripts that take something from another release of Debian.
# shellcheck shell=bash

# debian_mirror: apt's own.
debian_mirror() {
	awk '/^URIs/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
		awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list
}
