# Two-phase commit under 16 clients: the server is killed, and its clients with it, when transactions are prepared. They are
# still there after it, hold what they hold, and are finished by another session, one way or the other; then everything is
# sent again. IDEM_FAULT_PREPARED: how often.
# soak: IDEM_FAULT_PREPARED=100

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use Test::More;
use Time::HiRes qw(time);

my $wanted = $ENV{IDEM_FAULT_PREPARED} // 5;
my $node = load_node('prepared');
my $load = Load->new($node, 'two-phase' => '');
my $started = time;
my $crashes = 0;
my %finished = (COMMIT => 0, ROLLBACK => 0);

# Transactions of a client that will never come back: one more for each primitive that a transaction can hold.
sub prepare_some
{
	my ($n) = @_;

	$node->safe_psql('postgres', <<"SQL");
BEGIN; SELECT idem_claim('held', '$n'), idem_respond('held', '$n', '{"n":  $n}'); PREPARE TRANSACTION 'held claim $n';
BEGIN; SELECT idem_claim_batch('held batch', ARRAY['b$n', 'a$n']); PREPARE TRANSACTION 'held batch $n';
BEGIN; SELECT idem_stock_reserve('held', '$n', 'held', 1); PREPARE TRANSACTION 'held stock $n';
BEGIN; SELECT idem_lock('held $n', '1 hour'); PREPARE TRANSACTION 'held lock $n';
BEGIN; SELECT idem_begin('held attempt', '$n', '1 hour'); PREPARE TRANSACTION 'held attempt $n';
SQL
	return;
}

# What those of prepare_some hold, for others: they are told so, or wait.
sub held
{
	my ($n) = @_;

	return join ' ', map {
		my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET lock_timeout = '50ms'; SELECT $_");
		$err =~ /ERROR: +(\w+)/ ? $1 : $out
	  } (
		"idem_claim('held', '$n', wait => false)", "idem_claim('held', '$n')",
		"count(*) FROM idem_claim_batch('held batch', ARRAY['a$n', 'c$n'])", "idem_stock_reserve('held', '$n', 'held', 1)",
		"idem_lock('held $n') IS NULL", "status FROM idem_begin('held attempt', '$n')");
}

$node->safe_psql('postgres', "SELECT idem_stock_add('held', 1000000000)");
foreach my $n (1 .. $wanted)
{
	$load->start;
	$load->await(100 + int(rand(200)));
	prepare_some($n);
	# the clients with it, or they would finish what they have begun
	crash($node, sub { $load->kill });
	is(held($n), 'ID409 55P03 55P03 55P03 t 55P03', "crash $n: what is prepared holds");
	foreach my $gid (sort split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'))
	{
		my $way = (qw(COMMIT ROLLBACK))[ rand 2 ];

		$way = $n % 2 ? 'COMMIT' : 'ROLLBACK' if $gid =~ /^held/;
		$node->safe_psql('postgres', "$way PREPARED '$gid'");
		$finished{$way}++;
	}
	is(held($n), $n % 2 ? 'f f 2 t t running' : 't f 2 t f granted', "crash $n: finished by another session");
	is(verdict($load), '', "crash $n: finished");
	$load->again;
	judged($load, "crash $n: all sent again") or last;
	$crashes++;
	last if time_is_up();
	if ($n % 10 == 0)
	{
		$load = fresh($load);
		$node->safe_psql('postgres', "SELECT idem_stock_add('held', 1000000000)");
	}
}

my $wrong = Load->new($node, kinds => 'apart', 'two-phase' => '');
my $found = '';
for (1 .. 10)
{
	$wrong->start;
	$wrong->await(100);
	$wrong->kill;
	$wrong->again;
	$found = verdict($wrong);
	last if $found ne '';
}
like($found, qr/^lost: apart \d+ was acknowledged/m, 'the oracle catches a wrong way: apart');

figures("$crashes crashes with prepared transactions, $finished{COMMIT} committed, $finished{ROLLBACK} rolled back", $started);
$node->stop;
done_testing();
