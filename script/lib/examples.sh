# Shared by script/examples and script/test: runs the examples against the private server that PGHOST and PGPORT name.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for the scripts that read this file
IDEM_EXAMPLES=(http-node agent-tools webhooks-node http-python jobs-node consumer-rabbitmq saga-python jdbc-java)

# example_has COMMAND…: is it there, and does it succeed?
example_has() { "$@" >/dev/null 2>&1; }

# example_needs NAME: say what is not installed, if anything, and status 77.
example_needs() {
	local least=18
	if [ "$1" = jobs-node ]; then least=20; fi
	case $1 in
	*-node | http-python | agent-tools)
		example_has node -e "process.exit(parseInt(process.versions.node) >= $least ? 0 : 1)" || {
			echo "no node of version $least or later"
			return 77
		}
		example_has command -v npm || {
			echo "no npm"
			return 77
		}
		;;
	esac
	case $1 in
	http-python)
		example_has /usr/bin/python3 -c 'import flask, psycopg' || {
			echo "no python3-flask or python3-psycopg"
			return 77
		}
		;;
	saga-python)
		example_has /usr/bin/python3 -c 'import psycopg' || {
			echo "no python3-psycopg"
			return 77
		}
		;;
	jdbc-java)
		if ! example_has command -v javac || ! example_has ls /usr/share/java/{HikariCP,postgresql,slf4j-api,slf4j-nop}.jar ||
			! example_has /usr/bin/python3 -c 'import psycopg'; then
			echo "no javac, libhikaricp-java, libpostgresql-jdbc-java, libslf4j-java or python3-psycopg"
			return 77
		fi
		;;
	consumer-rabbitmq)
		if ! example_has /usr/bin/python3 -c 'import pika, psycopg' || [ ! -d /usr/lib/rabbitmq/lib ]; then
			echo "no rabbitmq-server, python3-pika or python3-psycopg"
			return 77
		fi
		;;
	esac
}

# example_packages DIR SECONDS: the packages that DIR's lock file names, into DIR; 77 if they cannot be had in this time.
example_packages() {
	[ ! -f "$1/node_modules/.package-lock.json" ] || return 0 # npm writes it last
	(cd "$1" && timeout "$2" npm ci --prefer-offline --no-audit --no-fund --ignore-scripts --fetch-retries 1) >"$1.npm.log" 2>&1 && return
	echo "npm cannot install the packages: $(grep -m 1 -iE 'err(or|!)' "$1.npm.log" || tail -n 1 "$1.npm.log")"
	return 77
}

# example_run NAME SECONDS: the example NAME, on a database of its own; prints what it counted. 77: something is not installed.
# It works in a copy, IDEM_T/programs/examples. After so many seconds it is ended, with status 124.
example_run() {
	local name=$1 database=example_${1//-/_} dir=$IDEM_T/programs/examples schema end=$((SECONDS + $2)) command
	example_needs "$name" || return
	if [ ! -d "$dir" ]; then
		mkdir -p "$IDEM_T/programs" || return 1
		tar -C "$IDEM_TOP" --exclude=node_modules -cf - examples | tar -C "$IDEM_T/programs" --no-same-owner -xf - || return 1
	fi
	schema=$dir/$name/schema.sql command=(node "$dir/$name/test/test.mjs")
	if [ "$name" = http-python ]; then # the client and the tables are those of http-node
		example_packages "$dir/http-node" "$2" || return
		schema=$dir/http-node/schema.sql
		command=(node "$dir/http-node/test/test.mjs" /usr/bin/python3 "$dir/http-python/server.py")
	fi
	if [ -f "$dir/$name/test/test.py" ]; then command=(/usr/bin/python3 "$dir/$name/test/test.py"); fi
	if [ -f "$dir/$name/package.json" ]; then example_packages "$dir/$name" "$2" || return; fi

	"$IDEM_BIN/psql" -Xqc "CREATE DATABASE $database" || return 1
	"$IDEM_BIN/psql" -Xq -d "$database" -c 'CREATE EXTENSION idem' || return 1
	if [ -f "$schema" ]; then "$IDEM_BIN/psql" -Xq -o /dev/null -d "$database" -v ON_ERROR_STOP=1 -f "$schema" || return 1; fi
	local left=$((end - SECONDS))
	[ "$left" -gt 0 ] || return 124
	# --foreground: it stays in our process group, which an exit trap ends
	as_server_user env PGDATABASE="$database" timeout --foreground -k 5 "$left" "${command[@]}" </dev/null 2>&1
}
