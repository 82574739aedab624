# A session that is stopped in the middle of inserting a key holds its reservation. Whoever must not wait is told at once that the key is
# taken: idem_lock by null, wait => false by ID409, a batch by busy. Whoever may wait is served when the stopped session goes on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $node = idem_node('main');
$node->safe_psql('postgres', q{
	-- the same key again and again, each time undone: half of the time it is reserved; few dead rows, for whoever walks over them holds the page
	CREATE PROCEDURE again(call text) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 1000000000 LOOP
			BEGIN
				EXECUTE call;
				RAISE EXCEPTION 'undo';
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
			IF i % 20 = 0 THEN
				TRUNCATE idem.claim, idem.lock;
			END IF;
			COMMIT;
		END LOOP;
	END $$;
});

# answered(SESSION, SQL): the answer, or undef if there is none as long as the stopped session may keep the server from giving it: it may have been
# stopped with a latch of the server's in its hands, which nobody gets past, and that is no business of this test.
sub answered
{
	my ($session, $sql) = @_;
	$session->tell($sql);
	for (1 .. 200)
	{
		$session->{psql}->pump_nb;
		return $session->answer if $session->{out} =~ /^\Q$session->{mark}\E$/m && $session->{err} =~ /^\Q$session->{mark}\E$/m;
		usleep(10_000);
	}
	return;
}

# beside(CALL, WAITS, STATEMENT...): what each statement answers beside a session that is stopped while CALL has the key reserved; then what
# WAITS, if it is given, answers when that session is gone.
sub beside
{
	my ($call, $waits, @statements) = @_;

	foreach my $try (1 .. 40)
	{
		my ($rival, $watcher, @others) = map { IdemTest::Session->new($node) } 1 .. 3 + @statements;
		my ($pid, $held, @answers) = ($rival->{pid}, 0);

		# what a session has to look up at its first call, it looks up before anybody is stopped
		$_->ask(q{SELECT idem_lookup('s', 'k'), idem_lock_lookup('l')}) foreach @others;
		$rival->tell("CALL again('$call')");
		for (1 .. 5000)
		{
			usleep(1000 + int rand 3000);
			kill 'STOP', $pid;
			usleep(1000);
			# a reservation is an advisory lock of a class of its own
			$held = scalar answered($watcher, "SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND objsubid = x'1DE'::int AND granted");
			last if !defined $held || $held > 0;
			kill 'CONT', $pid;
		}
		if ($held)
		{
			foreach my $n (0 .. $#statements)
			{
				push @answers, scalar answered($others[$n], "BEGIN; $statements[$n]; ROLLBACK");
				last if !defined $answers[-1];
			}
			$others[-1]->tell($waits) if defined $waits;
		}
		kill 'CONT', $pid;
		kill 'TERM', $pid;
		push @answers, $others[-1]->answer if $held && defined $waits;
		$_->end foreach $rival, $watcher, @others;
		return @answers if $held && @answers == grep { defined } @answers;
	}
	return;
}

my @busy = (
	[ q{SELECT idem_claim('s', 'k', wait => false)}, 'ERROR ID409' ],
	[ q{SELECT * FROM idem_claim_batch('s', ARRAY['k', 'other'], wait => false)}, qq{k|f|busy\nother|t|claimed} ],
	[ q{SELECT status FROM idem_begin('s', 'k', wait => false)}, 'ERROR ID409' ],
	[ q{SELECT seq, status FROM idem_begin_batch('s', ARRAY['k'], wait => false)}, 'k|busy' ]);
# who waits gives the key back: in the next try it would be there before the rival has it, and whoever looks is told so
my @answers = beside(q{SELECT idem_claim(''s'', ''k'')}, q{BEGIN; SELECT idem_claim('s', 'k'); ROLLBACK}, map { $_->[0] } @busy);
is($answers[$_], $busy[$_][1], "at once: $busy[$_][0]") foreach 0 .. $#busy;
is($answers[-1], 't', 'who may wait, has the key when the other is gone');

@answers = beside(q{SELECT idem_lock(''l'')}, undef, q{SELECT coalesce(idem_lock('l')::text, 'null')});
is($answers[0], 'null', 'at once: idem_lock');

$node->stop;
done_testing();
