# Prints what valgrind found in idem, from its logs on stdin; status 0: something. The server has findings of its own, and Debian has
# no list of what to ignore of those.
#
#	cat LOG… | valgrind.pl idem.c arg.c …
use strict;
use warnings;

my $files = join '|', map { quotemeta } @ARGV;
my $found = 0;
my $logs = do { local $/; <STDIN> } // '';

$logs =~ s/^==[0-9]+== ?//mg;    # a line begins with the process
# a report is a paragraph
for my $report (split /\n\n+/, $logs)
{
	next unless $report =~ /idem\.so|\((?:$files):/;
	# the padding of WAL records, which the server's own list ignores as well, if a function that idem_call runs has it flushed
	next if $report =~ /^Syscall param pwrite64\(buf\) points to uninitialised/ && $report =~ /XLogFlush.*call_function \(claim_call\.c:/s;
	print "$report\n\n";
	$found = 1;
}
exit !$found;
