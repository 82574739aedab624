# Reads what pg_regress or pg_isolation_regress prints: keeps it, and prints a line for each test as it finishes.
#
#	pg_regress … claim lock | regress.pl KIND PASS FILE claim lock
#
# The tests are run in the order given. The last line of FILE is "passed N", where N is the number of those that did.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Progress;
use Time::HiRes qw(time);

my ($kind, $pass, $keep, @tests) = @ARGV;
my ($passed, $since) = (0, time);

open my $out, '>', $keep or die "$keep: $!";
$out->autoflush;
Progress::started(what($tests[0]));
while (my $line = <STDIN>)
{
	print $out $line;
	# up to 15 "test claim ... ok 34 ms", in groups "     claim ... ok"; from 16 on "ok 1 - claim 34 ms", in groups "+"
	my ($name, $failed);
	if ($line =~ /^(?:test | {5})(\S+) +\.\.\. (\w+)/) { ($name, $failed) = ($1, $2 ne 'ok'); }
	elsif ($line =~ /^(not )?ok +\d+ +[-+] (\S+)/) { ($name, $failed) = ($2, $1); }
	else { next; }

	$passed++ unless $failed;
	Progress::finished(what($name), time - $since, $failed ? 'FAILED' : 'ok');
	$since = time;
	shift @tests;
	Progress::started(what($tests[0])) if @tests;
}
print $out "passed $passed\n";
close $out or die "$keep: $!";

# what(TEST): its name in the report.
sub what { return "$kind $_[0], $pass"; }
