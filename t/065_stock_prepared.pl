# Pins what meets an order that a prepared transaction is making or deciding, which the isolation tester cannot see: each pair of
# calls that can meet, both ends of the prepared one, at each level, on both routes. Whoever answers before the end answers as
# if he had come before it, whoever waits as if he had come after it; two never both change the order; the books balance; and a
# call that is sent again is told what fits. Above read committed 40001 is answered by trying again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use StockBooks;
use Test::More;

# an autovacuum might be waited for, for a moment, and be taken for what is prepared
my $node = stock_server('prepared', 'autovacuum = off');
my ($first, $second, $watch) = map { IdemTest::Session->new($node) } 1 .. 3;

# The calls: for the order; for the same order with another quantity; and for the rival, another order, of the same last pieces.
my %call = (
	reserve => q{idem_stock_reserve('web', 'order', 'ITEM', 2, '1 hour')},
	other => q{idem_stock_reserve('web', 'order', 'ITEM', 1)},
	confirm => q{idem_stock_confirm('web', 'order')},
	release => q{idem_stock_release('web', 'order')},
	rival => q{idem_stock_reserve('web', 'rival', 'ITEM', 2)});

# The model: for what is known of the order what each call answers, and what is known after it. The rival has what nobody
# holds, and then nobody else can have it.
my %model = (
	none => {
		reserve => [ 't', 'held' ], other => [ 't', 'one held' ], confirm => ['ERROR ID404'], release => [ 't', 'marked' ], rival => [ 't', 'sold' ] },
	held => { reserve => ['t'], other => ['ERROR ID422'], confirm => [ 't', 'confirmed' ], release => [ 't', 'released' ], rival => ['f'] },
	'one held' => { reserve => ['ERROR ID422'], other => ['t'], rival => ['f'] },
	confirmed => { reserve => ['t'], other => ['ERROR ID422'], confirm => ['f'], release => ['ERROR ID412'], rival => ['f'] },
	released =>
	  { reserve => ['f'], other => ['ERROR ID422'], confirm => ['ERROR ID412'], release => ['f'], rival => [ 't', 'released, sold' ] },
	'released, sold' => { rival => ['t'] },
	marked => { reserve => ['f'], other => ['f'], confirm => ['ERROR ID412'], release => ['f'], rival => [ 't', 'marked, sold' ] },
	'marked, sold' => { rival => ['t'] },
	sold => { release => [ 't', 'marked, sold' ], rival => ['t'] });

# What the tables say of it.
my %stored = (
	none => '', held => 'order:h', 'one held' => 'order:h', confirmed => 'order:c', released => 'order:r', 'released, sold' => 'order:r rival:h',
	marked => 'order:r', 'marked, sold' => 'order:r rival:h', sold => 'rival:h');

sub sql
{
	my ($call, $item) = @_;
	return 'SELECT ' . $call{$call} =~ s/ITEM/$item/r;
}

# does the second session wait, or has it answered?
sub waits
{
	$second->{psql}->pump_nb;
	return $watch->ask("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $second->{pid}") eq 't';
}

sub answered { return $second->{out} =~ /^\Q$second->{mark}\E$/m && $second->{err} =~ /^\Q$second->{mark}\E$/m; }

# what a call answers by the model, and the state after it
sub one
{
	my ($state, $call) = @_;
	my ($answer, $then) = @{ $model{$state}{$call} };
	return ($answer, $then // $state);
}

# what is wrong with the tables
sub stored
{
	my ($state) = @_;
	my $stored = $watch->ask("SELECT string_agg(seq || ':' || status::text, ' ' ORDER BY seq) FROM idem.hold");
	return $stored eq $stored{$state} ? () : "'$stored' instead of $state";
}

sub books_of
{
	my ($item) = @_;
	my $books = $watch->ask("SELECT books('$item', 2)");
	return $books eq 'balance' ? () : $books;
}

my $cells = 0;
my %tried_again;

# One cell: the order as it is before, the call that is prepared and its end, the call that meets it. Answers what is wrong.
sub meet
{
	my ($level, $force_sql, $before, $prepared, $end, $call) = @_;
	my $item = 'item ' . ++$cells;
	my $begin = "BEGIN ISOLATION LEVEL $level; DO 'BEGIN END'";
	my ($told, $then) = @{ $model{$before}{$prepared} };
	my $after = $end eq 'COMMIT' ? $then : $before;
	my @wrong;

	# the last pieces in one bucket, or in two, which an order then takes one after the other
	my $buckets = 1 + $cells % 2;
	$watch->ask("DELETE FROM idem.hold; SELECT idem_stock_add('$item', 2, $buckets)");
	$watch->ask(sql('reserve', $item)) if $before eq 'held';

	$first->ask("SET idem.force_sql = $force_sql; $begin");
	my $answer = $first->ask(sql($prepared, $item));
	push @wrong, "$prepared was told $answer" if $answer ne $told;
	$first->ask("PREPARE TRANSACTION 'order'");

	$second->ask("SET idem.force_sql = $force_sql; $begin");
	$second->tell(sql($call, $item));
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	until (answered() || waits()) { die "neither waits nor answers\n" if time > $until }
	my $early = answered();
	$answer = $second->answer if $early;
	# what is prepared cannot be the one to fail: a conflict that serializable sees at once is no answer yet
	my $failed = $early && $level eq 'SERIALIZABLE' && $answer eq 'ERROR 40001';
	$early = 0 if $failed;
	push @wrong, 'did not wait' if $early && $model{$before}{$call}[1] && ($call ne 'rival' || $prepared eq 'reserve');
	# one after the other: who answers early came first
	my ($expected, $left) = $early ? one($before, $call) : one($after, $call);
	$left = (one($left, $prepared))[1] if $early && $end eq 'COMMIT';

	$first->ask("$end PREPARED 'order'");
	$answer = $second->answer unless $early || $failed;
	# a conflict with what was prepared: the transaction is run again
	for (1 .. 5)
	{
		my $ended = $answer eq 'ERROR 40001' ? $answer : $second->ask('COMMIT');

		last if $ended ne 'ERROR 40001' || $level eq 'READ COMMITTED';
		$tried_again{"$level $end"}++;
		($expected, $left) = one($after, $call);
		$second->ask("ROLLBACK; $begin");
		$answer = $second->ask(sql($call, $item));
	}
	push @wrong, "$answer instead of $expected" if $answer ne $expected;
	push @wrong, stored($left), books_of($item);

	# sent again
	($expected, $left) = one($left, $call);
	$answer = $second->ask(sql($call, $item));
	push @wrong, "again: $answer instead of $expected" if $answer ne $expected;
	push @wrong, stored($left), books_of($item);

	return join '; ', @wrong;
}

foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	foreach my $force_sql ('off', 'on')
	{
		my @wrong;

		foreach my $pair ([ 'none', 'reserve' ], [ 'none', 'release' ], [ 'held', 'confirm' ], [ 'held', 'release' ])
		{
			foreach my $end ('COMMIT', 'ROLLBACK')
			{
				foreach my $call (sort keys %call)
				{
					my $wrong = meet($level, $force_sql, @$pair, $end, $call);

					push @wrong, "$call beside $pair->[1] of an order that is $pair->[0], $end: $wrong" if $wrong;
				}
			}
		}
		is(join("\n", @wrong), '', "$level, force_sql $force_sql");
	}
}
is($cells, 3 * 2 * 4 * 2 * 5, 'each cell');
is(join(' ', grep { /READ COMMITTED/ } keys %tried_again), '', 'nobody has to try again under read committed');
note("tried again: $_ $tried_again{$_}") foreach sort keys %tried_again;

# overdue, and somebody who is deciding on it is prepared: expiring passes it by, and takes it when he has given up
foreach my $force_sql ('off', 'on')
{
	foreach my $decided ('confirm', 'release')
	{
		foreach my $end ('COMMIT', 'ROLLBACK')
		{
			my $name = "overdue, $decided, $end, force_sql $force_sql";
			my $item = "item $name";

			$watch->ask("DELETE FROM idem.hold; SELECT idem_stock_add('$item', 2, 2)");
			$watch->ask(sql('reserve', $item));
			$watch->ask("UPDATE idem.hold SET expires_at = clock_timestamp() - interval '1 minute'");
			$first->ask("SET idem.force_sql = $force_sql; BEGIN");
			$first->ask(sql($decided, $item));
			$first->ask("PREPARE TRANSACTION 'order'");
			$second->ask("SET idem.force_sql = $force_sql; SET lock_timeout = '180s'");
			is($second->ask('CALL idem_stock_expire()'), '', "$name: nothing to wait for");
			is($watch->ask('SELECT status FROM idem.hold'), 'h', "$name: and nothing is taken");
			$first->ask("$end PREPARED 'order'");
			is($second->ask('CALL idem_stock_expire()'), '', "$name: it expires if it may");
			is($watch->ask('SELECT status FROM idem.hold'), $end eq 'ROLLBACK' ? 'x' : substr($decided, 0, 1), "$name: it has what was decided");
			is($watch->ask("SELECT books('$item', 2), idem_stock_available('$item')"),
				'balance|' . ($end eq 'COMMIT' && $decided eq 'confirm' ? 0 : 2), "$name: the books balance");
		}
	}
}

$_->end foreach $first, $second, $watch;
$node->stop;
done_testing();
