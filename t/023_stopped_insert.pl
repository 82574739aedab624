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
	-- the same key again and again, each time undone: half of the time it is reserved
	CREATE PROCEDURE again(call text) LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				EXECUTE call;
				RAISE EXCEPTION 'undo';
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
			COMMIT;
		END LOOP;
	END $$;
});

# stopped(CALL): a session that was stopped while it had a key reserved
sub stopped
{
	my ($call) = @_;
	my $session = IdemTest::Session->new($node);
	my $pid = $session->{pid};

	$session->tell("CALL again('$call')");
	for (1 .. 2000)
	{
		usleep(1000 + int rand 3000);
		kill 'STOP', $pid;
		usleep(1000);
		# a reservation is an advisory lock of a class of its own
		my $held = $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND objsubid = x'1DE'::int AND granted");
		return $session if $held > 0;
		kill 'CONT', $pid;
	}
	die 'no reservation was ever seen';
}

my %busy = (
	q{SELECT idem_claim('s', 'k', wait => false)} => 'ERROR ID409',
	q{SELECT * FROM idem_claim_batch('s', ARRAY['k', 'other'], wait => false)} => qq{k|f|busy\nother|t|claimed},
	q{SELECT status FROM idem_begin('s', 'k', wait => false)} => 'ERROR ID409',
	q{SELECT seq, status FROM idem_begin_batch('s', ARRAY['k'], wait => false)} => 'k|busy');
my $rival = stopped(q{SELECT idem_claim(''s'', ''k'')});
foreach my $call (sort keys %busy)
{
	my $session = IdemTest::Session->new($node);
	$session->ask(q{SET statement_timeout = '60s'});
	$session->ask('BEGIN');
	is($session->ask($call), $busy{$call}, "at once: $call");
	$session->end;
}
my $waits = IdemTest::Session->new($node);
$waits->tell(q{SELECT idem_claim('s', 'k')});
$waits->waits($node);
pass('who may wait, waits');
kill 'CONT', $rival->{pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($rival->{pid})");
is($waits->answer, 't', '… and has the key when the other is gone');
$waits->end;
$rival->end;

$rival = stopped(q{SELECT idem_lock(''l'')});
my $lock = IdemTest::Session->new($node);
$lock->ask(q{SET statement_timeout = '60s'});
is($lock->ask(q{SELECT coalesce(idem_lock('l')::text, 'null')}), 'null', 'at once: idem_lock');
kill 'CONT', $rival->{pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($rival->{pid})");
$rival->end;
$lock->end;

$node->stop;
done_testing();
