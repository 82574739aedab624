#!/usr/bin/env bash
# Tokens beside the usual ways: a table with INSERT and DELETE … RETURNING, and Redis with SET EX and DEL.
#
#   bench/token.sh [ROUNDS [SECONDS [CLIENTS…]]]     default: 10 rounds of 3 seconds with 1, 8 and 32 clients
#
# PostgreSQL with fsync and synchronous_commit on, Redis with appendfsync always, both private, on the same disk and
# reached over loopback. In each round every way runs once, in random order; printed are the median rates per second and
# the median of the rounds' ratios with its quartiles. Needs redis-server; leaves nothing behind.
set -euo pipefail
# shellcheck source=script/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../script/lib.sh"

rounds=${1:-10} seconds=${2:-3}
shift $(($# < 2 ? $# : 2))
clients=("$@")
if [ ${#clients[@]} -eq 0 ]; then clients=(1 8 32); fi
command -v redis-server >/dev/null || idem_die "no redis-server: apt-get install redis-server, and disable its service"

# free_port: a TCP port that nobody listens on.
free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", ReuseAddr => 1)->sockport'
}

# shellcheck disable=SC2119 # no arguments for make
idem_private_tree || exit 1
port=$(free_port)
idem_server_start main "fsync = on" "synchronous_commit = on" "listen_addresses = '127.0.0.1'" "port = $port"
export PGPORT=$port
"$IDEM_BIN/psql" -Xq <<-'END'
	CREATE EXTENSION idem;
	CREATE TABLE work (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject text NOT NULL);
	CREATE TABLE form_token (token uuid PRIMARY KEY DEFAULT gen_random_uuid(), purpose text NOT NULL,
		subject text NOT NULL, expires_at timestamptz NOT NULL);
END
export PGHOST=127.0.0.1

redis_port=$(free_port)
as_server_user mkdir "$IDEM_T/redis"
idem_job as_server_user redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$IDEM_T/redis" --save '' \
	--appendonly yes --appendfsync always --daemonize no --logfile "$IDEM_T/redis/log"
for _ in {1..50}; do
	if (exec 3<>"/dev/tcp/127.0.0.1/$redis_port") 2>/dev/null; then break; fi
	sleep 0.1
done

cc -O2 -Wall -Wextra -o "$IDEM_T/token" "$IDEM_TOP/bench/token.c" -I"$("$PG_CONFIG" --includedir)" \
	-L"$("$PG_CONFIG" --libdir)" -lpq -lpthread

echo "$("$IDEM_BIN/postgres" --version), $(redis-server --version | cut -d' ' -f1-3), $(nproc) cores," \
	"load $(cut -d' ' -f1 /proc/loadavg), $rounds rounds of $seconds s"

for n in "${clients[@]}"; do
	for round in $(seq "$rounds"); do
		for mode in $(printf '%s\n' {idem,table,redis}-{issue,cycle,work} | shuf); do
			echo "$n $round $mode $("$IDEM_T/token" "$mode" "$n" "$seconds" "$redis_port")"
		done
		"$IDEM_BIN/psql" -Xqc 'CHECKPOINT'
	done
done | tee "$IDEM_T/rates" | perl -e '
	my (%rate, @clients);
	while (<STDIN>) {
		my ($n, $round, $mode, $rate) = split;
		push @clients, $n unless $rate{$n};
		$rate{$n}{$mode}[$round - 1] = $rate;
	}
	sub quantile { my ($q, @v) = @_; @v = sort { $a <=> $b } @v; return $v[$q * $#v + 0.5] }
	for my $n (@clients) {
		for my $deed (qw(issue cycle work)) {
			printf "%3d clients, %-5s", $n, $deed;
			printf "  %s %8.0f/s", $_, quantile(0.5, @{ $rate{$n}{"$_-$deed"} }) for qw(idem table redis);
			for my $peer (qw(table redis)) {
				my ($ours, $theirs) = ($rate{$n}{"idem-$deed"}, $rate{$n}{"$peer-$deed"});
				my @ratio = map { $ours->[$_] / $theirs->[$_] } 0 .. $#$ours;
				printf "  idem:%s %.2f (%.2f to %.2f)", $peer, map { quantile($_, @ratio) } 0.5, 0.25, 0.75;
			}
			print "\n";
		}
	}
'
