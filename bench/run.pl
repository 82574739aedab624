# Measures what bench/measures.pl lists: called by script/bench, which has started the servers.
#
#   run.pl LOAD REDIS-SOCKET ETCD-PORT QUICKNESS FACTS COUNTING ADDING OUTPUT-DIRECTORY [ID…]
#
# LOAD is the program of bench/load.c, through which everything is done, SQL too; an empty socket or port: there is none.
# QUICKNESS is full, quick, or tiny (for a test: everything runs, no figure means anything). FACTS is a file of JSON: what is
# measured on. COUNTING, unless empty, is a file to write SQL to, for instructions to be counted: on each line the number of a
# row, a side, how often it is done, and the statements, with \n in between. Prints each row when it is known, and leaves bench.json,
# charts and bench.md in the output directory; unless ADDING is empty the rows take their places among those that are there.
#
# A and B are measured in pairs, one right after the other and in random order, and each pair gives one ratio: what else the
# machine does meanwhile changes both of them or, over many pairs, either as often as the other. Reported is the median of the
# ratios with its bootstrap interval.

use strict;
use warnings;

use FindBin;
use Encode ();
use IPC::Open2;
use JSON::PP;
use List::Util qw(max min shuffle sum0);
use POSIX ();
use Time::HiRes ();

use lib $FindBin::RealBin;
use Report;

require "$FindBin::RealBin/size.pl";

my ($load, $redis, $etcd, $quickness, $facts, $counting, $adding, $directory, @wanted) = @ARGV;

# pairs, loops: how many of them; seconds: of each side of a pair over the wire; calls: share of n in the loops; holds: share of n
# that is overdue; sizes: keys in the tables of large; rounds, wals: how many of them; keys, purges: in a table of purge, and how
# many of them; minutes, minute: of each side of soak, and seconds of one; clients: at most; row, total: seconds, which are kept to
# as long as there are 10 pairs of each; total is without large, purge and soak, apart: seconds that these need
our $effort = {
	full => {
		pairs => 40, seconds => 0.2, loops => 100, calls => 1, holds => 1, expiries => 10, memories => 3,
		sizes => [ 3_000_000, 10_000_000 ], rounds => 60, wals => 15, keys => 10_000_000, purges => 3, minutes => 30, minute => 60,
		clients => 99, row => 20, total => 1600, apart => 900
	},
	quick => {
		pairs => 12, seconds => 0.1, loops => 40, calls => 1, holds => 0.1, expiries => 10, memories => 1,
		sizes => [ 100_000, 300_000 ], rounds => 15, wals => 5, keys => 1_000_000, purges => 2, minutes => 12, minute => 10,
		clients => 99, row => 4, total => 240, apart => 100
	},
	tiny => {
		pairs => 2, seconds => 0.005, loops => 2, calls => 0.1, holds => 0.001, expiries => 2, memories => 1,
		sizes => [ 2_000, 3_000 ], rounds => 2, wals => 2, keys => 2_000, purges => 2, minutes => 2, minute => 0.3,
		clients => 3, row => 1, total => 100, apart => 10
	},
}->{$quickness} or die "no such quickness: $quickness\n";
my %how = (
	wire => \&measure_wire, loop => \&measure_loop, batch => \&measure_loop, wal => \&measure_loop, trigger => \&measure_trigger,
	large => \&measure_large, memory => \&measure_memory, p99 => \&measure_p99, purge => \&measure_purge, soak => \&measure_soak);
my %apart = map { $_ => 1 } qw(large purge soak);
my $next_key = 1;
my $functions = 0;
our ($pair_seconds, $clock);
my @to_count;

binmode STDOUT, ':utf8';
$| = 1;
my $pid = open2(my $from_load, my $to_load, $load);
binmode $_, ':utf8' foreach $from_load, $to_load;

my $run = JSON::PP->new->utf8->decode(Report::slurp($facts));
$run->{date} = POSIX::strftime('%Y-%m-%d %H:%M UTC', gmtime);
$run->{quickness} = $quickness;
$clock = "$run->{clock} time";
$run->{load_before} = load_average();
($run->{fsync_us}) = command('fsync', "$directory/fsync", $quickness eq 'tiny' ? 3 : 300);
$run->{server} = sql('SHOW server_version');
$run->{settings} = { map { $_ => sql("SHOW $_") }
	  qw(fsync synchronous_commit full_page_writes wal_level shared_buffers max_wal_size autovacuum) };
print Report::heading($run);

my $began = time;
my $measures = do "$FindBin::RealBin/measures.pl" or die 'measures.pl: ' . ($@ || $!);
foreach my $id (@wanted)
{
	die "no measure $id\n" unless grep { lc $_->{id} eq lc $id } @$measures;
}
my @measures = grep { my $measure = $_; @wanted ? grep({ lc $_ eq lc $measure->{id} } @wanted) : !$measure->{named} || $quickness eq 'tiny' } @$measures;
my $rows_left = sum0 map { scalar @{ $_->{clients} // [0] } } grep { !$apart{ $_->{kind} } } @measures;
my $apart_seconds = 0;
print to_be_measured();

foreach my $measure (@measures)
{
	my $header = Report::title($measure);

	foreach my $clients (@{ $measure->{clients} // [0] })
	{
		my $row = { map { $_ => $measure->{$_} } grep { defined $measure->{$_} } qw(id what against floor goal kind lower core) };
		my $missing = missing($measure->{needs} // '');
		my $row_began = time;

		$pair_seconds = min($effort->{row}, max(0, $effort->{total} + $apart_seconds - ($row_began - $began)) / $rows_left--) unless $apart{ $measure->{kind} };

		if ($missing)
		{
			$row->{skipped} = "no $missing here";
			$row->{conditions} = conditions($measure, $clients);
		}
		else
		{
			$how{ $measure->{kind} }->($measure, $row, min($clients, $effort->{clients}));
			$row->{note} = sql($measure->{note}) if $measure->{note};
			Report::judge($row);
		}
		$apart_seconds += time - $row_began if $apart{ $measure->{kind} };
		$row->{instruction_limits} = { map { $_ => $measure->{count}{$_} } grep { defined $measure->{count}{$_} } qw(floor goal) } if $measure->{count};
		push @{ $run->{rows} }, $row;
		push @to_count, to_count($measure, $#{ $run->{rows} }) if $counting && $measure->{count} && $clients == ($measure->{clients} // [0])->[0];
		print $header, Report::line($row);
		$header = '';
	}
}
$run->{seconds} = time - $began;
$run->{load_after} = load_average();
Report::spew($counting, Encode::encode('UTF-8', join '', @to_count)) if $counting;
close $to_load;
waitpid $pid, 0;

print Report::ending($run);
Report::add_to($directory, $run, $measures) if $adding;
Report::save($directory, $run);

# --- ways to measure: each fills in the row's conditions, unit and pairs ---

# clients over connections of their own
sub measure_wire
{
	my ($measure, $row, $clients) = @_;

	$row->{conditions} = conditions($measure, $clients);
	$row->{unit} = '/s';
	empty($measure);
	sql($measure->{before}) if $measure->{before};
	ways($measure, 'a', 'b');
	sql('CHECKPOINT');
	run('a', $clients, $measure->{warm}) if $measure->{warm} && $quickness ne 'tiny';
	run($_, $clients, $effort->{seconds}) foreach 'a', 'b';    # connects, plans, fills caches
	my %processor;
	my @sides = map {
		my $side = $_;
		sub {
			my ($done, $seconds, undef, undef, $processor) = run($side, $clients, $effort->{seconds});

			push @{ $processor{$side} }, $processor;
			return $done / $seconds;
		}
	} 'a', 'b';
	$row->{pairs} = pairs($effort->{pairs}, sub { }, @sides);
	$row->{server_us} = [ map { 1e6 * Report::quantile(0.5, @{ $processor{$_} }) } 'a', 'b' ];
	command('drop', $_) foreach 'a', 'b';
	return;
}

# PL/pgSQL in one backend: loops, batches, and WAL
sub measure_loop
{
	my ($measure, $row) = @_;
	my $kind = $measure->{kind};
	my $n = calls($measure, $kind eq 'batch' ? 1000 : 1);
	my @functions = map { loop_function($kind, $measure->{$_}, $measure->{keys}) } 'a', 'b';
	my $conninfo = 'dbname=bench';

	$row->{conditions} = conditions($measure);
	$row->{unit} = $kind eq 'wal' ? 'bytes' : '/s';
	$conninfo .= " options='-c synchronous_commit=off'" if $kind eq 'wal';
	sql($measure->{before}) if $measure->{before};
	my @sides = map { my $function = $_; sub { one_loop($measure, $conninfo, $function, $n) } } @functions;
	empty($measure);
	$_->() foreach @sides;
	sql('CHECKPOINT');
	$row->{pairs} = pairs($effort->{loops}, sub { empty($measure) if $_[0] % 10 == 0; return }, @sides);
	return;
}

# the time that a statement spends in its triggers
sub measure_trigger
{
	my ($measure, $row) = @_;
	my $n = calls($measure, 100);
	my $renew = sub {
		empty($measure);
		sql(sprintf $measure->{rows}, $n);
		return;
	};
	my @sides = map { my $statement = quoted($measure->{$_}); sub { $n / (sql("SELECT seconds_in_trigger($statement)") || 1e-9) } } 'a', 'b';

	$row->{conditions} = conditions($measure);
	$row->{unit} = '/s';
	$renew->();
	$_->() foreach @sides;
	$row->{pairs} = pairs($effort->{loops}, $renew, @sides);
	return;
}

# what a backend grows by, each time a new one
sub measure_memory
{
	my ($measure, $row) = @_;
	my $n = calls($measure, 1000);
	my @functions = map { memory_function($measure->{$_}) } 'a', 'b';
	my $sessions = 0;
	my @sides = map {
		my $function = $_;
		sub {
			my $conninfo = 'dbname=bench application_name=memory' . ++$sessions;

			sql("SELECT $function(1, 'warm')", $conninfo);
			return 0 + sql("SELECT $function($n, 'key ')", $conninfo);
		}
	} @functions;

	$row->{conditions} = conditions($measure);
	$row->{unit} = 'MB';
	$row->{absolute} = 1;
	$row->{pairs} = pairs($effort->{memories}, sub { empty($measure) }, @sides);
	return;
}

# latency beside a background statement, and alone
sub measure_p99
{
	my ($measure, $row, $clients) = @_;
	my $n = max(10, $measure->{n} * $effort->{holds});
	my @took;

	$row->{conditions} = conditions($measure, $clients);
	$row->{unit} = 'ms';
	ways($measure, 'a');
	run('a', $clients, $effort->{seconds});
	$row->{pairs} = pairs(
		$effort->{expiries},
		sub {
			sql('TRUNCATE idem.hold');
			# a few at a time: versions of a bucket that one transaction has written cannot be pruned before it ends
			for (my $first = 1; $first <= $n; $first += 500)
			{
				my $last = min($n, $first + 499);
				sql("SELECT count(idem_stock_reserve('overdue', n::text, '$measure->{item}', 1, '1 hour')) FROM generate_series($first, $last) AS n");
			}
			sql(q{UPDATE idem.hold SET expires_at = clock_timestamp() - interval '1 minute'});
			sql($_) foreach 'VACUUM ANALYZE idem.hold', 'VACUUM idem.stock', 'CHECKPOINT';
		},
		sub {
			command('start', 'dbname=bench', 'CALL idem_stock_expire()');
			my @result = run('a', $clients, 0);
			push @took, command('finish');
			return $result[3];
		},
		sub { (run('a', $clients, max($effort->{seconds} * 5, 0.02)))[3] });
	command('drop', 'a');
	my $left = sql(q{SELECT count(*) FROM idem.hold WHERE source = 'overdue' AND status <> 'x'});
	die "$left holds are not given back\n" if $left;
	$row->{note} = sprintf 'idem_stock_expire took %.2f s', Report::quantile(0.5, @took);
	return;
}

# --- parts of them ---

# to_count(MEASURE, ROW): what is run to count the instructions of both sides, for two numbers of calls: the difference counts.
sub to_count
{
	my ($measure, $row) = @_;
	my $kind = $measure->{kind} eq 'batch' ? 'batch' : 'loop';
	my @prepare = $measure->{fresh} ? "TRUNCATE $measure->{fresh}" : 'CALL bench.old_keys(1000)';
	my $path = 'SET search_path = bench, public';    # such a server heeds no settings of a database
	my @lines;

	foreach my $side ('a', 'b')
	{
		my $function = loop_function($kind, $measure->{count}{$side} // $measure->{$side}, $measure->{keys});
		my $call = $kind eq 'batch' ? 'SELECT' : 'CALL';

		foreach my $n ($kind eq 'batch' ? (1000, 2000) : (200, 1000))
		{
			# once before, to plan and to fill caches
			my @statements = ($path, @prepare, "$call $function(5001, 1000)", $measure->{fresh} ? @prepare : (), "$call $function(1, $n)");

			$statements[2] = "$call $function(1, 1)" if $kind ne 'batch';
			push @lines, join("\t", $row, $side, $n, join('\n', @statements)) . "\n";
		}
	}
	return @lines;
}

# pairs(N, PREPARE, SIDE...): the values of A and B, or of more sides, N times, in random order; PREPARE is given the number of the pair, from 0.
# When the time for it is up, and there are 10, they have to do.
sub pairs
{
	my ($n, $prepare, @sides) = @_;
	my @pairs;
	my $until = time + $pair_seconds;

	foreach my $pair (0 .. $n - 1)
	{
		my @pair;

		$prepare->($pair);
		$pair[$_] = $sides[$_]->() foreach shuffle 0 .. $#sides;
		push @pairs, \@pair;
		last if @pairs >= 10 && time > $until;
	}
	return \@pairs;
}

# ways(MEASURE, SIDE...): makes the sides known to the load program.
sub ways
{
	my ($measure, @sides) = @_;
	my $conninfo = sprintf q{dbname=bench options='-c synchronous_commit=%s'}, $measure->{async} ? 'off' : 'on';

	foreach my $side (@sides)
	{
		command('way', $side, $conninfo, $redis, $etcd || 0, ($measure->{network} // 0) / 1000);
		foreach my $step (@{ $measure->{$side} })
		{
			my ($kind, $text, $expect, $when) = @$step;
			my @values;

			# :name becomes $1, and so on
			if ($kind eq 'pg' || $kind eq 'begin')
			{
				my %number;

				$text =~ s/(?<!:):([a-z]\w*)/push @values, $1 unless $number{$1}; $number{$1} ||= @values; "\$$number{$1}"/ge;
			}
			command('step', $when // 'each', $kind, $text, join(' ', @values), $expect // '');
		}
	}
	return;
}

# run(SIDE, CLIENTS, SECONDS, RATE): what bench/load.c says of run.
sub run
{
	my ($side, $clients, $seconds, $rate) = @_;

	return command('run', $side, $clients, $seconds, $rate // 0);
}

# loop_function(KIND, BODY, KEYS, CONNINFO): makes the function that runs the body for each key; its name.
sub loop_function
{
	my ($kind, $body, $keys, $conninfo) = @_;
	my $name = 'loop_' . ++$functions;
	$keys //= 'keys';

	if ($kind eq 'batch')
	{
		sql(<<"SQL", $conninfo);
CREATE FUNCTION bench.$name(first bigint, n bigint) RETURNS float8 LANGUAGE plpgsql AS \$f\$
DECLARE
	ks text[];
	done bigint;
	began float8;
	spent float8 := 0;
BEGIN
	FOR i IN 0 .. n / 1000 - 1 LOOP
		ks := bench.$keys(first + i * 1000, 1000);
		began := bench.seconds();
		$body;
		spent := spent + (bench.seconds() - began);
		IF done <> 1000 THEN
			RAISE EXCEPTION '% of a batch were not done', 1000 - done;
		END IF;
	END LOOP;
	RETURN n / spent;
END \$f\$
SQL
	}
	else
	{
		my ($declare, $begin, $each, $end) = $kind eq 'wal'
		  ? ('lsn pg_lsn', 'lsn := pg_current_wal_insert_lsn()', 'COMMIT', 'result := (pg_current_wal_insert_lsn() - lsn) / n')
		  : ('began float8', 'began := bench.seconds()', 'NULL', 'result := n / (bench.seconds() - began)');

		sql(<<"SQL", $conninfo);
CREATE PROCEDURE bench.$name(first bigint, n bigint, INOUT result float8 DEFAULT NULL) LANGUAGE plpgsql AS \$f\$
DECLARE
	ks text[] := bench.$keys(first, n);
	k text;
	done boolean;
	$declare;
BEGIN
	$begin;
	FOREACH k IN ARRAY ks LOOP
		$body;
		IF done IS NOT TRUE THEN
			RAISE EXCEPTION '% was not done', k;
		END IF;
		$each;
	END LOOP;
	$end;
END \$f\$
SQL
	}
	return "bench.$name";
}

sub one_loop
{
	my ($measure, $conninfo, $function, $n) = @_;
	my $first = $measure->{old} ? 1 : $next_key;

	$next_key += $n;
	return 0 + sql($measure->{kind} eq 'batch' ? "SELECT $function($first, $n)" : "CALL $function($first, $n)", $conninfo);
}

sub memory_function
{
	my ($body) = @_;
	my $name = 'memory_' . ++$functions;

	sql(<<"SQL");
CREATE FUNCTION bench.$name(n bigint, prefix text) RETURNS float8 LANGUAGE plpgsql AS \$f\$
DECLARE
	k text;
	done boolean;
	base bigint := bench.private_bytes();
	peak bigint := 0;
BEGIN
	FOR i IN 1 .. n LOOP
		k := prefix || i;
		$body;
		IF i % 50000 = 0 OR i = n THEN
			peak := greatest(peak, bench.private_bytes() - base);
		END IF;
	END LOOP;
	RETURN peak;
END \$f\$
SQL
	return "bench.$name";
}

sub empty
{
	my ($measure) = @_;

	sql("TRUNCATE $measure->{fresh}") if $measure->{fresh};
	return;
}

# calls(MEASURE, LEAST): how many calls there are in a loop.
sub calls
{
	my ($measure, $least) = @_;

	return max($least, $measure->{n} * $effort->{calls});
}

# missing(NEEDS): what of it is not here, if anything
sub missing
{
	my ($needs) = @_;

	return '' if $needs eq 'redis' && $redis || $needs eq 'etcd' && $etcd;
	my ($version) = $needs =~ /^PostgreSQL (\d+)/;
	my ($server) = $run->{server} =~ /^(\d+)/;
	return defined $version && $server >= $version ? '' : $needs;
}

# what is about to be measured, and how long that takes
sub to_be_measured
{
	my (%rows, @ids);

	foreach my $measure (@measures)
	{
		push @ids, $measure->{id} unless $rows{ $measure->{id} };
		$rows{ $measure->{id} } += @{ $measure->{clients} // [0] };
	}
	my $soaks = grep { $_->{kind} eq 'soak' } @measures;
	my $seconds = min($effort->{total}, 1.2 * $effort->{row} * $rows_left) + 2 * $soaks * $effort->{minutes} * $effort->{minute};
	$seconds += $effort->{apart} / 2 foreach grep { my $id = $_; grep { $_ eq $id } @ids } qw(P10 P14);
	return sprintf "To be measured, in about %d minutes: %s\n", 1 + $seconds / 60, join ', ', map { $rows{$_} > 1 ? "$_ ($rows{$_} rows)" : $_ } @ids;
}

# conditions(MEASURE, CLIENTS): in words.
sub conditions
{
	my ($measure, $clients) = @_;
	my $kind = $measure->{kind};
	my @words;

	push @words, $clients == 1 ? '1 client' : "$clients clients" if $clients;
	push @words, sprintf '%g ms of network each way', $measure->{network} if $measure->{network};
	push @words, 'synchronous_commit ' . ($measure->{async} ? 'off' : 'on') if $kind eq 'wire' || $kind eq 'p99';
	push @words, "loop in the server, $clock" if $kind eq 'loop' || $kind eq 'batch';
	push @words, 'a transaction each' if $kind eq 'wal';
	push @words, 'time in the trigger, ' . Report::number(calls($measure, 100)) . ' rows' if $kind eq 'trigger';
	push @words, Report::number($effort->{sizes}[ $measure->{size} ]) . ' keys' if $kind eq 'large';
	push @words, $measure->{of} eq 'wal' ? Report::number(calls($measure, 100)) . ' calls, a transaction each' : "loop in the server, $clock" if $kind eq 'large';
	push @words, Report::number($effort->{keys}) . ' random keys, a tenth of them due' if $kind eq 'purge';
	push @words, $clock if $kind eq 'purge' && $measure->{of} eq 'processor';
	push @words, sprintf '%d minutes', $effort->{minutes} * $effort->{minute} / 60 if $kind eq 'soak';
	push @words, Report::number(calls($measure, 1000)) . ' calls, grown by' if $kind eq 'memory';
	push @words, Report::number(max(10, $measure->{n} * $effort->{holds})) . ' overdue holds' if $kind eq 'p99';
	push @words, $measure->{with} if $measure->{with};
	return join ', ', @words;
}

sub sql
{
	my ($text, $conninfo) = @_;

	return (command('sql', $conninfo // 'dbname=bench', $text))[0] // '';
}

# command(FIELD...): tells the load program something; its answer.
sub command
{
	my @fields = @_;

	s/\\/\\\\/g, s/\n/\\n/g, s/\t/\\t/g foreach @fields;
	print {$to_load} join("\t", @fields), "\n";
	$to_load->flush;
	my $answer = readline $from_load;
	die "the load program is gone after: @fields\n" unless defined $answer;
	chomp $answer;
	my ($verdict, @results) = split /\t/, $answer, -1;
	s/\\(.)/$1 eq 'n' ? "\n" : $1 eq 't' ? "\t" : $1/ge foreach @results;
	die "@results\n" if $verdict ne 'ok';
	return @results;
}

sub quoted
{
	my ($text) = @_;

	return q{'} . $text =~ s/'/''/gr . q{'};
}

sub load_average
{
	open my $file, '<', '/proc/loadavg' or return undef;
	return 0 + (split / /, readline $file)[0];
}
