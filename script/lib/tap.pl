# Runs TAP scripts, several at once, and prints a line for each as it finishes; of one that failed also what it had to say.
#
#	tap.pl DIR LIBRARY JOBS COUNT SCRIPT…
#
# They run in DIR, with LIBRARY and DIR as Perl's libraries. COUNT is the file for the numbers passed, failed, skipped.
use strict;
use warnings;

use File::Basename;
use File::Path 'make_path';
use FindBin;
use lib $FindBin::RealBin;
use Progress;
use TAP::Harness;

my ($dir, $library, $jobs, $count, @scripts) = @ARGV;
my ($passed, $failed, $skipped) = (0, 0, 0);
my $said = "$dir/tmp_check/said";

chdir $dir or die "$dir: $!";
make_path($said, "$dir/tmp_check/log");
local $ENV{PERL_TEST_HARNESS_DUMP_TAP} = $said;

my $harness = TAP::Harness->new(
	{
		jobs => $jobs,
		verbosity => -3,
		# without it the harness waits for two pipes, of which the second is closed at once: it would take that for news, and
		# then wait for the next line of that one script, while others have finished
		merge => 1,
		# each script with a file of its own for what it says beside the protocol
		exec => sub {
			my (undef, $script) = @_;
			return [ 'sh', '-c', 'exec 2>"$0" && exec "$@"', errors($script), $^X, "-I$library", "-I$dir", $script ];
		}
	});

$harness->callback(made_parser => sub { my ($parser, $test) = @_; Progress::started($test->[0]); return; });
$harness->callback(after_test => sub { my ($test, $parser) = @_; count($test->[0], $parser); return; });
$harness->runtests(@scripts);

open my $out, '>', $count or die "$count: $!";
print $out "$passed $failed $skipped\n";
close $out or die "$count: $!";

# errors(SCRIPT): the file for what it says on stderr.
sub errors { return "$said/" . basename($_[0]) . '.err'; }

# count(SCRIPT, PARSER): it has finished.
sub count
{
	my ($script, $parser) = @_;
	my $bad = $parser->failed;
	my %skip = map { $_ => 1 } $parser->skipped;
	my $good = grep { !$skip{$_} } $parser->actual_passed;
	my $omitted = $parser->tests_run - $good - $bad + ($parser->skip_all ? 1 : 0);

	# died, or ran another number of tests than planned
	$bad ||= 1 if $parser->has_problems;
	$passed += $good;
	$failed += $bad;
	$skipped += $omitted;
	Progress::finished($script, $parser->end_time - $parser->start_time, $bad ? 'FAILED' : $good ? 'ok' : 'skipped');
	print "--- skipped: ", $parser->skip_all, "\n" if $parser->skip_all;
	return unless $bad;

	print "--- $script, status ", $parser->exit, ", what failed:\n";
	print grep { /^not ok|^Bail out/ } lines("$said/$script");
	show('what it said', 100, errors($script));
	show('the end of its log', 50, "$dir/tmp_check/log/regress_log_" . basename($script, '.pl'));
	print "---\n";
	return;
}

# show(WHAT, NUMBER, FILE): its last lines.
sub show
{
	my ($what, $number, $file) = @_;
	my @lines = lines($file) or return;

	splice @lines, 0, -$number if @lines > $number;
	print "--- $what:\n", @lines;
	return;
}

# lines(FILE): none, if it is not there.
sub lines
{
	my ($file) = @_;

	open my $in, '<', $file or return;
	return readline $in;
}
