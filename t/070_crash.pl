# SIGKILL of the postmaster under 16 clients doing all primitives, again and again: every promise is kept after each. And
# three wrong ways under the same fault, which the oracle must catch. IDEM_FAULT_CRASHES: how often.
# fsync is off here: what was written survives a process that dies, the machine lives on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use Test::More;
use Time::HiRes qw(time);

my $crashes = $ENV{IDEM_FAULT_CRASHES} // 5;
my $node = load_node('crash', 'checkpoint_timeout = 30');
my $load = Load->new($node);
my $started = time;

foreach my $n (1 .. $crashes)
{
	$load = fresh($load) if $n % 10 == 0;
	$load->start;
	$load->await(200 + int(rand(300)));
	crash($node);
	$load->await(100);
	$load->stop;
	judged($load, "crash $n") or last;
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

figures("$crashes crashes of the server", $started);
$node->stop;
done_testing();
