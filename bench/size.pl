# The parts of bench/run.pl that measure large tables and long times: P10, P14 and P15. Their time is not shared with the other rows.

use strict;
use warnings;

use List::Util qw(max min);
use Time::HiRes ();

our ($effort, $pair_seconds, $clock);

# what was measured for a row is of use for the next
my (%among_many, %purged, $filled);

# A and B in tables of many keys, and in tables of 10,000
sub measure_large
{
	my ($measure, $row) = @_;
	my ($shape, $size, $of) = @$measure{qw(shape size of)};
	my $keys = $effort->{sizes}[$size];

	$row->{conditions} = conditions($measure);
	$row->{unit} = $of eq 'wal' ? 'bytes' : 's';
	@$row{qw(shape keys of)} = ($shape, $keys, $of);
	fill('dbname=large', $shape, $keys) unless ($filled // '') eq "$shape $size";
	$filled = "$shape $size";
	if ($of eq 'wal')
	{
		$row->{pairs} = wal_after_checkpoint($measure);
		return;
	}

	my $times = $among_many{"$shape $size"} //= time_among_many($measure);
	my %compared = (each => [ 0, 2 ], more => [ 0, 1 ], other => [ 2, 3 ]);
	$row->{pairs} = $of eq 'lost' ? lost(@$times) : [ map { [ @$_[ @{ $compared{$of} } ] ] } @$times ];
	$row->{among_few} = [ map { my $side = $_; Report::quantile(0.5, map { $_->[$side] } @$times) } 1, 3 ] if $of eq 'each';
	return;
}

# What A and B lose among many: of the medians of five rounds, for a difference of two times varies more than these do.
sub lost
{
	my (@times) = @_;
	my @pairs;

	while (my @five = splice @times, 0, 5)
	{
		my @median = map { my $side = $_; Report::quantile(0.5, map { $_->[$side] } @five) } 0 .. 3;

		push @pairs, [ max(1e-9, $median[0] - $median[1]), max(1e-9, $median[2] - $median[3]) ];
	}
	return \@pairs;
}

# the seconds for a call of A among many, A among few, B among many, B among few, again and again
sub time_among_many
{
	my ($measure) = @_;
	my $n = calls($measure, 100);
	my $few = min(10_000, $effort->{sizes}[ $measure->{size} ]);
	my @sides = map {
		my $body = $measure->{$_};
		map {
			my $conninfo = $_;
			my $function = loop_function('loop', $body, "$measure->{shape}_keys", $conninfo);
			sub { 1 / one_loop($measure, $conninfo, $function, $n) }
		} 'dbname=large', 'dbname=small'
	} 'a', 'b';
	my $renew = sub { fill('dbname=small', $measure->{shape}, $few) if $_[0] % 5 == 0; return };

	$pair_seconds = $effort->{row} * 2;
	$renew->(0);
	$_->() foreach @sides;
	sql('CHECKPOINT');
	return pairs($effort->{rounds}, $renew, @sides);
}

sub wal_after_checkpoint
{
	my ($measure) = @_;
	my $n = calls($measure, 100);
	my $conninfo = q{dbname=large options='-c synchronous_commit=off'};
	my @sides = map {
		my $function = loop_function('wal', $measure->{$_}, "$measure->{shape}_keys", $conninfo);
		sub {
			sql('CHECKPOINT');
			return one_loop($measure, $conninfo, $function, $n);
		}
	} 'a', 'b';

	$pair_seconds = $effort->{row};
	return pairs($effort->{wals}, sub { }, @sides);
}

# fill(CONNINFO, SHAPE, N): N keys of a shape in the tables of a database, and nothing else; indexes are built afterwards when they
# are many, as a table has them after REINDEX.
sub fill
{
	my ($conninfo, $shape, $n) = @_;
	my $key = { random => 'gen_random_uuid()', v7 => 'uuid_v7(1700000000000 + i)', ascending => q{lpad(i::text, 12, '0')} }->{$shape};

	foreach (
		[ 'idem.claim', 'claim_pkey', 'source, seq, owner, status, fence, claimed_at', qq{'bench', $key, 'postgres', 'd', 0, clock_timestamp()} ],
		[ 'bench.bare', 'bare_pkey', 'source, seq, claimed_at', qq{'bench', $key, clock_timestamp()} ])
	{
		my ($table, $index, $columns, $values) = @$_;
		my $many = $n > 10_000;
		my $definition = sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '$index' AND conrelid = '$table'::regclass", $conninfo);

		sql("TRUNCATE $table", $conninfo);
		sql("ALTER TABLE $table DROP CONSTRAINT $index", $conninfo) if $many;
		sql("INSERT INTO $table ($columns) SELECT $values FROM generate_series(1, $n) AS i", $conninfo);
		next unless $many;
		sql("ALTER TABLE $table ADD CONSTRAINT $index $definition", $conninfo);
		sql("VACUUM (FREEZE, ANALYZE) $table", $conninfo);
		# the index into shared buffers
		sql($_, $conninfo)
		  foreach 'SET enable_seqscan = off', 'SET max_parallel_workers_per_gather = 0', "SELECT count(*) FROM $table WHERE seq > '' AND source > ''", 'RESET ALL';
	}
	sql('CHECKPOINT') if $n > 10_000;
	return;
}

# A tenth of the keys is due, anywhere in the table. Each side works on a copy of the same files, after a checkpoint.
sub measure_purge
{
	my ($measure, $row) = @_;
	my $n = $effort->{keys};
	my %place = (rate => 0, wal => 1, processor => 2);

	$row->{conditions} = conditions($measure);
	$row->{unit} = { rate => '/s', wal => 'MB', processor => 'ms' }->{ $measure->{of} };
	fill_due($n) unless %purged;
	my $figures = $purged{ $measure->{a} } //=
	  pairs($effort->{purges}, sub { }, map { my $statement = $measure->{$_}; sub { purge_once($statement, $n) } } 'a', 'b');
	my $place = $place{ $measure->{of} };
	$row->{pairs} = [ map { [ $_->[0][$place], $_->[1][$place] ] } @$figures ];
	$row->{note} = sprintf 'elapsed %.1f s : %.1f s', map { my $side = $_; Report::quantile(0.5, map { $n / 10 / $_->[$side][0] } @$figures) } 0, 1 if $measure->{of} eq 'rate';
	return;
}

sub fill_due
{
	my ($n) = @_;
	my $conninfo = 'dbname=purge';
	my $definition = sql(q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'claim_pkey'}, $conninfo);

	sql($_, $conninfo)
	  foreach 'ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey', qq{INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at)
			SELECT 'random', gen_random_uuid(), 'postgres', 'd', 0, clock_timestamp() - CASE WHEN i % 10 = 0 THEN interval '101 days' ELSE '0' END
			FROM generate_series(1, $n) AS i}, "ALTER TABLE idem.claim ADD CONSTRAINT claim_pkey $definition", 'VACUUM (FREEZE, ANALYZE) idem.claim';
	return;
}

# rows in a second, bytes of WAL, and seconds of the processor
sub purge_once
{
	my ($statement, $n) = @_;
	my $conninfo = q{dbname=purging options='-c client_min_messages=warning'};

	command('close', $_) foreach 'dbname=purge', $conninfo;
	sql($_) foreach 'DROP DATABASE IF EXISTS purging', 'CREATE DATABASE purging TEMPLATE purge STRATEGY file_copy', 'ALTER DATABASE purging SET search_path = bench, public';
	my ($lsn, $processor) = split /\|/, sql('SELECT pg_current_wal_insert_lsn(), bench.seconds()', $conninfo);
	my $from = Time::HiRes::time();
	sql($statement, $conninfo);
	my $took = Time::HiRes::time() - $from;
	my ($wal, $used) = split /\|/, sql("SELECT pg_current_wal_insert_lsn() - '$lsn', bench.seconds() - $processor", $conninfo);
	my $left = sql('SELECT count(*) FROM idem.claim', $conninfo);

	die "$left rows are left after: $statement\n" if $left != $n - int($n / 10);
	command('close', $conninfo);
	sql('DROP DATABASE purging');
	return [ $n / 10 / $took, $wal, $used ];
}

# a steady load for minutes with a purge at each, then the same without; the pairs are the last minutes of both
sub measure_soak
{
	my ($measure, $row, $clients) = @_;
	my ($minutes, $minute) = @$effort{qw(minutes minute)};
	my $keep = sprintf '%g seconds', 2 * $minute;
	my (@p99, @sizes);

	$row->{conditions} = conditions($measure, $clients);
	$row->{unit} = 'ms';
	sql($_) foreach 'ALTER SYSTEM SET autovacuum = on', q{ALTER SYSTEM SET checkpoint_timeout = '5min'}, 'SELECT pg_reload_conf()';
	foreach my $purge (1, 0)
	{
		sql('TRUNCATE idem.claim');
		sql('CHECKPOINT');
		ways($measure, 'a');
		run('a', $clients, $minute / 10, $measure->{rate});
		foreach my $i (1 .. $minutes)
		{
			command('start', 'dbname=bench', "CALL idem_purge('$keep')") if $purge;
			push @{ $p99[$purge] }, (run('a', $clients, $minute, $measure->{rate}))[3];
			command('finish') if $purge;
			push @{ $sizes[$purge] }, [ split /\|/, sql(q{SELECT pg_relation_size('idem.claim') / 1e6, pg_relation_size('idem.claim_pkey') / 1e6}) ];
		}
		command('drop', 'a');
	}
	sql($_) foreach 'ALTER SYSTEM RESET autovacuum', 'ALTER SYSTEM RESET checkpoint_timeout', 'SELECT pg_reload_conf()';

	my $last = max(0, $minutes - 10);
	$row->{pairs} = [ map { [ $p99[1][$_], $p99[0][$_] ] } $last .. $minutes - 1 ];
	$row->{sizes} = { with => $sizes[1], without => $sizes[0] };
	$row->{p99} = { with => $p99[1], without => $p99[0] };
	my @shown = grep { $_ > 0 } map { int($minutes * $_ / 6) } 1 .. 6;
	$row->{note} = sprintf 'keys kept for %s; table and index with purge after %s minutes: %s MB; without: %s MB', $keep, join(', ', map { sprintf '%.2g', $_ * $minute / 60 } @shown),
	  map { my $side = $_; join ', ', map { sprintf '%.0f + %.0f', @{ $sizes[$side][ $_ - 1 ] } } @shown } 1, 0;
	return;
}

1;
