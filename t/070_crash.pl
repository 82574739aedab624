# SIGKILL of the postmaster under 16 clients doing all primitives, again and again: every promise is kept after each. And
# three wrong ways under the same fault, which the oracle must catch; and the oracle itself, which must notice each promise that is
# broken by hand. IDEM_FAULT_CRASHES: how often.
# soak: IDEM_FAULT_CRASHES=200
# fsync is off here: what was written survives a process that dies, the machine lives on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Oracle;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $wanted = $ENV{IDEM_FAULT_CRASHES} // 5;
my $node = load_node('crash', 'checkpoint_timeout = 30');
my $load = Load->new($node);
my $started = time;
my $crashes = 0;

foreach my $n (1 .. $wanted)
{
	last if time_is_up();
	$load = fresh($load) if $n % 10 == 0;
	$load->start;
	$load->await(200 + int(rand(300)));
	crash($node);
	$load->await(100);
	$load->stop;
	judged($load, "crash $n") or last;
	$crashes++;
}

my %caught = (check => qr/^effect: check \d+ was done/m, apart => qr/^lost: apart \d+ was acknowledged/m);
foreach my $kind (sort keys %caught)
{
	my $wrong = Load->new($node, kinds => $kind);
	my $found = '';

	for (1 .. 10)
	{
		$wrong->start;
		$wrong->await(50);
		crash($node);
		$wrong->await(50);
		$wrong->stop;
		$found = verdict($wrong);
		last if $found =~ $caught{$kind};
	}
	like($found, $caught{$kind}, "the oracle catches a wrong way: $kind");
}
my $wrong = Load->new($node, kinds => 'unsorted');
$wrong->start;
$node->wait_for_log(qr/deadlock detected/, $wrong->{log_offset}{ $node->name });
$wrong->kill;
like(log_complaints($node, \$wrong->{log_offset}{ $node->name }), qr/^log: .*deadlock detected/m, 'the oracle catches a wrong way: unsorted');

# the oracle itself: each promise is broken by hand, and noticed
$load = fresh($load);
$load->start;
$load->await(150);
$load->stop;
is(verdict($load), '', 'nothing is broken');

# A line of the journals, as it is.
sub journal_line
{
	my ($pattern) = @_;

	return (grep { $_ =~ $pattern } map { split /^/, slurp_file($_) } glob "$load->{dir}/journal.*")[0];
}

append_to_file("$load->{dir}/journal.0",
	join '', journal_line(qr/\tclaim\t\d+\t5\tdone\tfirst\t/) x 2, journal_line(qr/\tstate\t\d+\t5\twon\tpaid\t/), journal_line(qr/\tlock\t.*\tgrant\t/),
	journal_line(qr/\tcall\t\d+\t6\tdone\t/) =~ s/by/BY/r);
$node->safe_psql('postgres', <<'SQL');
INSERT INTO load.effect (kind, key, client, body) SELECT kind, key, client, body FROM load.effect WHERE kind = 'claim' AND key = '1';
INSERT INTO load.history (key, was, became) VALUES ('1', 'created', 'paid'), ('2', 'shipped', 'paid');
DELETE FROM load.effect WHERE kind = 'call' AND key = '1';
DELETE FROM load.thing WHERE key = '1';
UPDATE load.thing SET body = body || ' ' WHERE key = '2';
DELETE FROM load.document WHERE key = '4';
DELETE FROM idem.hold WHERE seq = '2';
UPDATE idem.hold SET quantities = ARRAY[quantities[1] + 1] WHERE seq = '6';
DELETE FROM idem.claim WHERE source = 'batch' AND seq = '3';
DELETE FROM idem.token_spent WHERE nonce = (SELECT min(nonce) FROM idem.token_spent);
DELETE FROM load.guarded WHERE key = '2';
UPDATE idem.claim SET response = (response::text || ' ')::json WHERE source = 'attempt' AND seq = '2';
UPDATE load.product SET stock = stock - 1 WHERE id = 1;
UPDATE load.doc SET n = n + 1 WHERE id = 2;
UPDATE load.guarded g SET fence = fence + 1000 WHERE name = 'lock 3' AND id = (SELECT min(id) FROM load.guarded WHERE name = g.name);
INSERT INTO load.guarded (name, fence, key) VALUES ('lock 3', 1, 'late');
UPDATE idem.lock SET fence = 0 WHERE name = 'lock 4';
UPDATE idem.claim SET fence = 0 WHERE source = 'attempt' AND seq = '4';
UPDATE pg_index SET indisready = false WHERE indexrelid = 'load.bare_pkey'::regclass;
INSERT INTO load.bare VALUES ('not', 'indexed');
UPDATE pg_index SET indisready = true WHERE indexrelid = 'load.bare_pkey'::regclass;
BEGIN; SELECT idem_claim('left', 'prepared'); PREPARE TRANSACTION 'left';
SQL
my $open = IdemTest::Session->new($node);
$open->ask(q(BEGIN; SELECT idem_claim('left', 'open')));
my $found = verdict($load);
like($found, qr/^$_/m, "noticed: $_")
  foreach 'effect: claim 1 was done 2 times', 'effect: state 1: from created to paid 2 times', 'lost: call 1 was acknowledged',
  'lost: insert 1 was', 'lost: state 4 was acknowledged, and is not there', 'lost: stock 2 was acknowledged, and is not there',
  'twice: claim 5 was', 'twice: state 5 was moved to paid', 'claim: call 1: claimed without an effect', 'claim: batch 3: an effect without a claim',
  'claim: \d+ spent tokens', 'claim: lock 2: 0 guarded rows', 'answer: call 6 has 2 answers', 'answer: attempt 2: .* is recorded',
  'answer: insert 2 was answered', 'books: product 1:', 'books: doc 2:', 'books: item \d: \d+ in stock', 'books: stock 6 holds',
  'fence: lock lock \d+: fence \d+ was granted 2 times', 'fence: lock 3: row \d+ has fence', 'fence: lock 4 is at 0',
  'fence: attempt 4 is at 0', 'state: 2 went from shipped to paid', 'amcheck: load.bare_pkey: ', 'lock: ', 'prepared: left';
$open->end;
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'left'));

# what was never acknowledged is not missed, but it is not there when all is sent again
$load = fresh($load);
$load->start;
$load->await(50);
$load->stop;
$node->safe_psql('postgres', q(DELETE FROM load.effect WHERE kind = 'claim' AND key = '0'; DELETE FROM idem.claim WHERE source = 'claim' AND seq = '0'));
foreach my $journal (glob "$load->{dir}/journal.*")
{
	my $lines = slurp_file($journal);

	unlink $journal;
	append_to_file($journal, join '', grep { !/\tclaim\t0\t0\t/ } split /^/, $lines);
}
like(findings($load), qr/^again: load.effect/m, 'noticed: something that changes when all is sent again');

figures("$crashes crashes of the server", $started);
$node->stop;
done_testing();
