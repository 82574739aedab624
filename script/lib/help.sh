# Shared by all scripts: --help.
# shellcheck shell=bash

unset CDPATH # or cd prints where it goes

# usage: print the comment at the head of the script, which is its manual.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# help_if_asked "$@": print the manual and end, if the first argument asks for it.
help_if_asked() {
	case ${1:-} in
	-h | --help)
		usage
		exit 0
		;;
	esac
}
