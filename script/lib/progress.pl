# Tells what script/test is doing.
#
#	progress.pl start WHAT, progress.pl end WHAT
#	                       WHAT, which is no test, begins and ends
#	progress.pl watch      for ever: whenever nothing has happened for ten seconds, a line that says what is running
#	progress.pl slowest    the five tests that took longest
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Progress;
use Time::HiRes qw(sleep time);

my ($command, $what) = @ARGV;
my $quiet = 10;

if ($command eq 'start')
{
	Progress::started($what);
}
elsif ($command eq 'end')
{
	Progress::with_file(sub { Progress::add(shift, 'E', $what, time) });
}
elsif ($command eq 'watch')
{
	my $said = time;

	while (sleep 1)
	{
		my @entries = Progress::with_file(\&Progress::entries);
		my $last = @entries ? $entries[-1]{at} : 0;
		next if time - ($last > $said ? $last : $said) < $quiet;
		my @running = Progress::running(@entries) or next;
		syswrite STDOUT, '… ' . join(', ', map { sprintf '%s (%d s)', $_->{what}, time - $_->{at} } @running) . "\n";
		$said = time;
	}
}
elsif ($command eq 'slowest')
{
	my @slowest = Progress::slowest(5, Progress::with_file(\&Progress::entries)) or exit;

	print "slowest:\n", map { sprintf "%8.1f s  %s\n", $_->{seconds}, $_->{what} } @slowest;
}
else
{
	die "progress.pl: unknown command $command\n";
}
