# What a run of script/test has come to, shared by the processes that run tests at the same time: a file that each appends to.
# IDEM_PROGRESS is its name, IDEM_PROGRESS_TOTAL the number of tests to come. A line of it: S or F, what, the time, and for F (finished)
# the seconds and the verdict.
package Progress;

use strict;
use warnings;

use Fcntl qw(:flock SEEK_SET);
use Time::HiRes qw(time);

# started(WHAT): it is running now.
sub started
{
	my ($what) = @_;

	return with_file(sub { add(shift, 'S', $what, time) });
}

# finished(WHAT, SECONDS, VERDICT): prints its line, with the count of all that have finished.
sub finished
{
	my ($what, $seconds, $verdict) = @_;

	return with_file(
		sub {
			my $file = shift;
			add($file, 'F', $what, time, $seconds, $verdict);
			my $count = grep { $_->{kind} eq 'F' } entries($file);
			my $total = $ENV{IDEM_PROGRESS_TOTAL};
			my $line = sprintf "[%*d/%d] %6.1f s  %-7s %s\n", length $total, $count, $total, $seconds, $verdict, $what;
			# in one write, for others print at the same time
			syswrite STDOUT, $line;
		});
}

# entries(FILE): all that is in it.
sub entries
{
	my ($file) = @_;
	my @keys = qw(kind what at seconds verdict);

	seek $file, 0, SEEK_SET;
	return map { chomp; my %entry; @entry{@keys} = split /\t/; \%entry } readline $file;
}

# running(ENTRY...): those that were started and have not finished.
sub running
{
	my @entries = @_;
	my %running;

	for my $entry (@entries)
	{
		if ($entry->{kind} eq 'S') { $running{ $entry->{what} } = $entry; }
		else { delete $running{ $entry->{what} }; }
	}
	return sort { $a->{at} <=> $b->{at} } values %running;
}

# slowest(NUMBER, ENTRY...): the finished ones that took longest.
sub slowest
{
	my ($number, @entries) = @_;
	my @finished = sort { $b->{seconds} <=> $a->{seconds} } grep { $_->{kind} eq 'F' } @entries;

	return @finished[ 0 .. ($number > @finished ? @finished : $number) - 1 ];
}

# with_file(CODE): CODE with the file, locked.
sub with_file
{
	my ($code) = @_;
	my $name = $ENV{IDEM_PROGRESS} or die 'IDEM_PROGRESS is not set';

	open my $file, '+>>', $name or die "$name: $!";
	flock $file, LOCK_EX or die "$name: $!";
	my @answer = $code->($file);
	close $file or die "$name: $!";
	return @answer;
}

# add(FILE, VALUE...): append a line.
sub add
{
	my ($file, @values) = @_;

	syswrite $file, join("\t", @values) . "\n";
	return;
}

1;
