# SIGKILL of a backend at a random moment, under 16 clients doing all primitives: the server starts anew, and every promise
# is kept. And two wrong ways, which the oracle must catch. IDEM_FAULT_KILLS: how often.
# soak: IDEM_FAULT_KILLS=1000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use Test::More;
use Time::HiRes qw(time);

my $wanted = $ENV{IDEM_FAULT_KILLS} // 20;
my $every = 4;    # kills until all is sent again; the promises are judged after each
my $node = load_node('kill');
my $load = Load->new($node);
my $started = time;
my $kills = 0;

# Kills one of the backends of the load.
sub kill_one
{
	for (1 .. 100)
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY random() LIMIT 1");

		return if $pid && kill('KILL', $pid);
	}
	BAIL_OUT('no backend to kill');
}

foreach my $n (1 .. $wanted)
{
	$load->start;
	$load->await(1 + int(rand(100)));
	kill_one();
	$load->await(20);
	$load->stop;
	if ($n % $every == 0 || $n == $wanted)
	{
		judged($load, "$n backends killed") or last;
	}
	elsif (my $found = verdict($load))
	{
		is($found, '', "$n backends killed");
		last;
	}
	$kills++;
	last if time_is_up();
	$load = fresh($load) if $n % (10 * $every) == 0;
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
		kill_one();
		$wrong->await(50);
		$wrong->stop;
		$found = verdict($wrong);
		last if $found =~ $caught{$kind};
	}
	like($found, $caught{$kind}, "the oracle catches a wrong way: $kind");
}

figures("$kills backends killed", $started);
$node->stop;
done_testing();
