# Connections that are cut under 16 clients doing all primitives, by a proxy, at five points: before the request is sent, when
# half of it is, when it is sent and nobody waits for the reply, when the reply is there and lost, in the middle of the
# reply. The client sends the request again at once, while the old backend may live on. IDEM_FAULT_CUTS: how many, at each point.
# soak: IDEM_FAULT_CUTS=1000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use Test::More;
use Time::HiRes qw(time usleep);

my $cuts = $ENV{IDEM_FAULT_CUTS} // 20;
my $round = 100;    # cuts at each point, at most, until all is judged
my @points = ('before the request', 'in the request', 'after the request', 'before the reply', 'in the reply');
my $node = load_node('cut');
my @faults = (proxy => 2, 'fault-rate' => 0.15, deadline => 300);
my $load = Load->new($node, @faults);
my $started = time;

# cuts_of(LOAD): how many at each point, in commits, or earlier in the transaction.
sub cuts_of
{
	my ($load) = @_;
	my @counts = $load->counts;

	return map { $counts[ 5 + $_ ] + $counts[ 10 + $_ ] } 0 .. 4;
}

# The least of a list.
sub least { return (sort { $a <=> $b } @_)[0]; }

my @all = (0) x 5;
while (least(@all) < $cuts && !time_is_up())
{
	my @before = cuts_of($load);
	my $end = time + 120;

	$load->start;
	usleep(50_000) while time < $end && least(map { (cuts_of($load))[$_] - $before[$_] + $all[$_] } 0 .. 4) < least($cuts, least(@all) + $round);
	$load->stop;
	my @after = cuts_of($load);
	$all[$_] += $after[$_] - $before[$_] foreach 0 .. 4;
	judged($load, 'cut: ' . join ', ', map { "$all[$_] $points[$_]" } 0 .. 4) or last;

	$load = fresh($load);
}

my %caught = (check => qr/^effect: check \d+ was done/m, apart => qr/^lost: apart \d+ was acknowledged/m);
foreach my $kind (sort keys %caught)
{
	my $wrong = Load->new($node, kinds => $kind, @faults);
	my $found = '';

	for (1 .. 10)
	{
		$wrong->start;
		$wrong->await(300);
		$wrong->stop;
		$found = verdict($wrong);
		last if $found =~ $caught{$kind};
	}
	like($found, $caught{$kind}, "the oracle catches a wrong way: $kind");
}

figures('cut ' . join(', ', map { "$all[$_] $points[$_]" } 0 .. 4), $started);
$node->stop;
done_testing();
