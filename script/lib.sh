# Shared by script/test, script/server, script/demo and others: a private, throw-away PostgreSQL with idem in it.
# shellcheck shell=bash disable=SC2034  # variables for the scripts that read this file
#
#   set -euo pipefail
#   . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   idem_private_tree                    # sets IDEM_T, IDEM_BIN, IDEM_SRC, IDEM_PGXS
#   idem_server_start main "work_mem = '8MB'"
#   "$IDEM_BIN/psql" -X -c 'CREATE EXTENSION idem'
#
# Nothing is installed into the system and no server but our own is touched: everything lives below
# the temporary directory IDEM_T, and an exit trap ends what was started there and removes it; a script
# with an exit trap of its own calls idem_cleanup in it. PG_CONFIG chooses the PostgreSQL to work with.
# IDEM_NEEDED=1 has script/bootstrap install no more than a server with idem needs.
# IDEM_SANITIZE=1 builds idem with the address and undefined behaviour sanitizers, and any finding ends the server
# process by a signal; PostgreSQL 17 or later of a distribution whose preloaded libasan works (Debian 12's hangs).

umask 022 # root's own umask must not hide the copies from the server's user

# shellcheck source=script/lib/help.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/help.sh"

IDEM_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
IDEM_T=
IDEM_JOBS=()

# The caller's libpq settings must not lead a client to another server.
for IDEM_VAR in "${!PG@}"; do
	case $IDEM_VAR in PG_*) ;; *) unset "$IDEM_VAR" ;; esac
done
unset IDEM_VAR
export PGCTLTIMEOUT=600 # catches only a hang: a busy machine may need minutes to start or stop a server

# idem_neutral: from here on nothing depends on the language, the sort order, or the time zone of whoever runs us.
idem_neutral() {
	unset LANGUAGE
	export LC_ALL=C TZ=UTC
}

# idem_die TEXT: say what is wrong, and end with status 1.
idem_die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# as_server_user CMD…: run CMD, in IDEM_T, as the user whom servers run as: postgres if we are root, else ourselves. Without
# a home, where programs would look for settings.
as_server_user() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd "$IDEM_T" && exec runuser -u postgres -- env HOME="$IDEM_T" "$@")
	else
		(cd "$IDEM_T" && exec env HOME="$IDEM_T" "$@")
	fi
}

# idem_job CMD…: start CMD in the background as a process group, which the exit trap ends; sets IDEM_JOB, for `wait`.
idem_job() {
	set -m # without a group of its own a pipeline's or a test's children would outlive us
	"$@" </dev/null &
	IDEM_JOB=$!
	set +m
	IDEM_JOBS+=("$IDEM_JOB")
}

# idem_private_tree [MAKE-ARGUMENT…]: make IDEM_T with a copy of the server, build idem and install it there; status 1,
# with make's output on stderr, if the build fails. Sets:
#   IDEM_T     the temporary directory, owned by the servers' user
#   IDEM_BIN   the private bindir: psql, pgbench, pg_ctl …
#   IDEM_SRC   the copy of the sources that was built
#   IDEM_PGXS  the installed pgxs/src directory: pg_regress, Perl modules
idem_private_tree() {
	bash "$IDEM_TOP/script/bootstrap" ${IDEM_NEEDED:+--needed} >&2 || exit 1
	PG_CONFIG=$(command -v "${PG_CONFIG:-pg_config}") || idem_die "no pg_config"
	export PG_CONFIG

	IDEM_T=$(mktemp -d "${TMPDIR:-/tmp}/idem.XXXXXX")
	IDEM_T=$(cd "$IDEM_T" && pwd -P)
	[ ${#IDEM_T} -le 60 ] || idem_die "$IDEM_T is too long for the sockets in it: set TMPDIR to a shorter path"
	if [ "$(id -u)" -eq 0 ]; then
		id postgres >/dev/null 2>&1 || idem_die "PostgreSQL does not run as root, and there is no user postgres"
		chown postgres: "$IDEM_T"
		as_server_user true || idem_die "user postgres cannot enter $IDEM_T: set TMPDIR to a directory open to all"
	fi

	idem_copy_server
	IDEM_SRC=$IDEM_T/build
	idem_build "$IDEM_SRC" "$@" || return 1
	make -s -C "$IDEM_SRC" install DESTDIR="$IDEM_T" with_llvm=no "$@" >"$IDEM_T/install.log" 2>&1 || {
		cat "$IDEM_T/install.log" >&2
		return 1
	}
	if [ "$(id -u)" -eq 0 ]; then chown -R postgres: "$IDEM_SRC"; fi
}

# idem_variant NAME [MAKE-ARGUMENT…]: build idem once more, in IDEM_T/build-NAME, and install it into a second tree of the same server;
# status 1, and make's output, if the build fails. IDEM_BIN is that tree's from then on. Its server takes next to no space.
idem_variant() {
	local dir root=$IDEM_T/$1 build=$IDEM_T/build-$1
	shift
	idem_build "$build" "$@" || return 1
	for dir in "$("$PG_CONFIG" --bindir)" "$("$PG_CONFIG" --sharedir)" "$("$PG_CONFIG" --pkglibdir)"; do
		mkdir -p "$root${dir%/*}"
		[ -d "$root$dir" ] || cp -al "$IDEM_T$dir" "$root$dir"
	done
	dir=$("$PG_CONFIG" --pkglibdir)
	rm -f "$root$dir/idem.so" "$root$("$PG_CONFIG" --sharedir)"/extension/idem{.control,--*}
	make -s -C "$build" install DESTDIR="$root" with_llvm=no "$@" >"$build.log" 2>&1 || {
		cat "$build.log" >&2
		return 1
	}
	IDEM_BIN=$root$("$PG_CONFIG" --bindir)
}

# idem_build DIR [MAKE-ARGUMENT…]: copy the sources to DIR and build them there; status 1, and make's output, if that fails.
idem_build() {
	local dir=$1
	shift
	if [ -n "${IDEM_SANITIZE:-}" ]; then
		set -- "$@" COPT='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
	fi
	mkdir "$dir"
	tar -C "$IDEM_TOP" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=./results \
		--exclude=./output_iso --exclude=./tmp_check --exclude=./log -cf - . | tar -C "$dir" --no-same-owner -xf -
	# bitcode serves only JIT inlining, and would need the very clang that the server was built with
	make -s -j"$(nproc)" -C "$dir" with_llvm=no "$@" >"$dir.log" 2>&1 || {
		cat "$dir.log" >&2
		return 1
	}
}

# idem_build_load: build the clients of the fault tests, without a warning, for idem_tap.
idem_build_load() {
	make -s -C "$IDEM_SRC/t/load" PROGRAM="$IDEM_T/load" PG_CONFIG="$PG_CONFIG" PROFILE=-Werror
}

# idem_tap CMD…: run CMD as the servers' user, with all that a TAP script looks for in its environment.
idem_tap() {
	as_server_user mkdir -p "$IDEM_T/tmp"
	as_server_user env PATH="$IDEM_BIN:$PATH" PG_CONFIG="$IDEM_BIN/pg_config" PG_REGRESS="$IDEM_PGXS/test/regress/pg_regress" \
		TMPDIR="$IDEM_T/tmp" IDEM_LOAD="$IDEM_T/load" TESTDIR="$IDEM_SRC" TESTDATADIR="$IDEM_SRC/tmp_check" \
		TESTLOGDIR="$IDEM_SRC/tmp_check/log" PG_TEST_TIMEOUT_DEFAULT=600 "$@"
}

# idem_copy_server: copy the server that PG_CONFIG names below IDEM_T; it finds its files relative to its programs.
idem_copy_server() {
	local bindir sharedir pkglibdir program
	bindir=$("$PG_CONFIG" --bindir)
	sharedir=$("$PG_CONFIG" --sharedir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	IDEM_PGXS=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/.." && pwd -P)
	IDEM_BIN=$IDEM_T$bindir

	mkdir -p "$IDEM_BIN" "$IDEM_T$sharedir" "$IDEM_T$pkglibdir"
	# by name: in some layouts bindir is /usr/bin itself
	for program in "$bindir"/{postgres,initdb,psql,pgbench,pg_*,createdb,dropdb,createuser,dropuser,vacuumdb,reindexdb}; do
		if [ -x "$program" ]; then cp -Lp "$program" "$IDEM_BIN"; fi
	done
	if [ -n "${IDEM_SANITIZE:-}" ]; then
		# the runtime must come first in the process that loads idem, and in no other
		mv "$IDEM_BIN/postgres" "$IDEM_BIN/postgres.plain"
		cat >"$IDEM_BIN/postgres" <<-END
			#!/bin/sh
			LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \\
			UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1 exec $IDEM_BIN/postgres.plain "\$@"
		END
		chmod 755 "$IDEM_BIN/postgres"
	fi
	cp -RL "$sharedir/." "$IDEM_T$sharedir"
	tar -C "$pkglibdir" --exclude=./bitcode --exclude=./pgxs -chf - . | tar -C "$IDEM_T$pkglibdir" --no-same-owner -xf -
	rm -f "$IDEM_T$pkglibdir"/idem.so "$IDEM_T$sharedir"/extension/idem{.control,--*} # another version's

	if [ "$("$IDEM_BIN/pg_config" --sharedir)" != "$IDEM_T$sharedir" ] ||
		[ "$("$IDEM_BIN/pg_config" --pkglibdir)" != "$IDEM_T$pkglibdir" ]; then
		idem_die "this PostgreSQL cannot be copied: $bindir does not find $sharedir and $pkglibdir relative to itself"
	fi
}

# idem_server_start NAME [CONF-LINE…]: start the server NAME (made if new, in IDEM_T/NAME: data, log, socket) with these
# lines in its configuration, and point PGHOST, PGPORT, PGUSER, PGDATABASE at it. fsync is off unless a line says else.
idem_server_start() {
	local dir=$IDEM_T/$1
	shift
	if [ ! -d "$IDEM_T/template" ]; then
		# in a subshell, or an exit trap run here would print to the log
		(as_server_user "$IDEM_BIN/initdb" -D "$IDEM_T/template" -A trust -U postgres -E UTF8 --locale=C -N) >"$IDEM_T/initdb.log" 2>&1 || {
			cat "$IDEM_T/initdb.log" >&2
			idem_die "initdb failed"
		}
		cat <<-'END' | as_server_user tee -a "$IDEM_T/template/postgresql.conf" >/dev/null
			listen_addresses = ''
			port = 5999
			max_connections = 120
			max_prepared_transactions = 20
			shared_buffers = 128MB
			max_wal_size = 2GB
			fsync = off
		END
	fi
	if [ ! -d "$dir/data" ]; then
		as_server_user mkdir "$dir"
		as_server_user cp -a "$IDEM_T/template" "$dir/data"
	fi
	printf '%s\n' "unix_socket_directories = '$dir'" "$@" | as_server_user tee -a "$dir/data/postgresql.conf" >/dev/null
	as_server_user "$IDEM_BIN/pg_ctl" -D "$dir/data" -l "$dir/log" -w -s start || {
		cat "$dir/log" >&2
		idem_die "the server does not start"
	}
	export PGHOST=$dir PGPORT=5999 PGUSER=postgres PGDATABASE=postgres
}

# idem_server_stop NAME [fast|immediate|smart]: stop the server NAME; its data stays for another start.
idem_server_stop() {
	as_server_user "$IDEM_BIN/pg_ctl" -D "$IDEM_T/$1/data" -m "${2:-fast}" -w -s stop
}

# idem_cleanup: end the jobs, then every server whose data is below IDEM_T, and remove IDEM_T.
idem_cleanup() {
	local job pidfile pid
	trap '' HUP INT TERM
	for job in "${IDEM_JOBS[@]}"; do
		kill -TERM -- "-$job" 2>/dev/null || continue
		for _ in {1..50}; do
			kill -0 -- "-$job" 2>/dev/null || continue 2
			sleep 0.1
		done
		kill -KILL -- "-$job" 2>/dev/null || :
	done
	if [ -n "$IDEM_T" ]; then
		# also the servers of TAP scripts that were cut short; cwd tells a stale pid from a postmaster of ours
		while IFS= read -r pidfile; do
			pid=$(head -n 1 "$pidfile") || continue
			if [ "/proc/$pid/cwd" -ef "${pidfile%/*}" ]; then
				as_server_user "$IDEM_BIN/pg_ctl" -D "${pidfile%/*}" -m immediate -w -s stop || :
			fi
		done < <(find "$IDEM_T" -name postmaster.pid 2>/dev/null)
		rm -rf "$IDEM_T" || :
	fi
}

trap idem_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
