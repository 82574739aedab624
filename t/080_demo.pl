# Pins script/demo: every part, at its quick size, finds idem right and what it is compared with wrong; it ends with status 0
# and leaves neither a process nor a file behind, also when it is interrupted while one of its workers is stopped.

use strict;
use warnings;

use File::Basename;
use File::Temp;
use IPC::Run;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

# script/test works on a copy of the server, which has no headers: the demo builds against the original
my $source = $ENV{TESTDIR} // '.';
my $copies = dirname($source);
chomp(my $bindir = `pg_config --bindir`);
$bindir =~ s/^\Q$copies\E(?=\/)//;

# starts script/demo in a session of its own, and with a directory of its own for all it makes
sub demo
{
	my @arguments = @_;
	my $self = { dir => File::Temp->newdir, out => '', err => '' };

	$self->{run} = IPC::Run::start(
		[ 'env', "PG_CONFIG=$bindir/pg_config", "TMPDIR=$self->{dir}", 'bash', "$source/script/demo", @arguments ],
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err},
		# a shell cannot trap what was ignored when it began, as it is in a background job's
		init => sub { POSIX::setsid(); $SIG{INT} = 'DEFAULT' },
		IPC::Run::timeout(1800));
	return $self;
}

# the states of the processes that run programs, or stand, below a demo's directory
sub processes
{
	my ($dir) = @_;
	my @states;

	foreach my $process (glob '/proc/[0-9]*')
	{
		my ($command, $state) = ('', '');
		my $place = readlink("$process/cwd") // '';

		if (open my $in, '<', "$process/cmdline") { $command = <$in> // '' }
		next unless index($command, "$dir/") >= 0 || index($place, "$dir/") == 0;
		if (open my $in, '<', "$process/stat") { ($state) = (<$in> // '') =~ /\) (\S)/ }
		push @states, $state // '';
	}
	return @states;
}

sub is_tidy
{
	my ($demo, $when) = @_;

	is(join(' ', processes("$demo->{dir}")), '', "no process is left $when");
	is(join(' ', glob("$demo->{dir}/*")), '', "no file is left $when");
	return;
}

# the whole of it
my $demo = demo('--quick', '--seed', '7');
$demo->{run}->finish;
is($demo->{run}->full_result(0), 0, 'status') or diag("$demo->{out}\n$demo->{err}");
like($demo->{out}, qr/^=== orders ok, payments ok, messages ok, sms ok, sale ok$/m, 'all parts');
like($demo->{out}, qr/^with idem:    0 orders made twice or more, 0 payments charged twice or more, 0 orders that end wrong, 0 messages sent twice or more, 0 pieces sold that were not there$/m, 'what it comes to with idem');
like($demo->{out}, qr/^without idem: [1-9]\d* orders made twice or more(, [1-9]\d* [^,]+){4}$/m, 'and without');
like($demo->{out}, qr/^=== orders over [^\n]*; seed 7\n\w/m, 'the seed, and what is shown');
unlike($demo->{out}, qr/^(WRONG|PROVES NOTHING)/m, 'verdicts');
like($demo->{err}, qr/^$_\b.*; idem: [1-9]\d* came in, [1-9]\d* duplicates, \d+ refused\b/m, "the progress of $_ shows what idem has counted")
  foreach 'call', 'claim', 'payments', 'sms';
is_tidy($demo, 'at the end');

# the number in a row of a part's table, by column
sub cell
{
	my ($part, $row, $column) = @_;
	my ($table) = $demo->{out} =~ /^=== [^\n]*$part(.*?)(?:^===|\z)/ms;
	my ($numbers) = ($table // '') =~ /^\s*\Q$row\E((?:\s+[\d-]+)+)$/m;

	return (split ' ', $numbers // '')[$column] // "no row $row";
}

# what each part with idem must have, and what it must not have without
is(cell('orders', 'doubles', $_), 0, "orders: no double, way $_") foreach 0, 1;
cmp_ok(cell('orders', 'doubles', $_), '>', 0, "orders: doubles without idem, way $_") foreach 2, 3;
is(cell('payments', 'charged once', $_), cell('payments', 'payments wanted', 0), "payments: charged once, way $_") foreach 1, 2;
cmp_ok(cell('payments', 'charged twice or more', 0), '>', 0, 'payments: doubles without idem');
cmp_ok(cell('payments', 'answered by key, not charged again', 1), '>', 0, 'payments: the key was needed');
cmp_ok(cell('payments', 'reported as expired, for a human', 2), '>', 0, 'payments: the human was needed');
is(cell('messages', 'orders that end wrong', $_), 0, "messages: no wrong end, way $_") foreach 1, 2;
cmp_ok(cell('messages', 'orders that end wrong', 0), '>', 0, 'messages: wrong ends without idem');
cmp_ok(cell('messages', 'put back: came before its time', 2), '>', 0, 'messages: some came before their time');
is(cell('text messages', 'sent twice or more', 1), 0, 'sms: none twice');
is(cell('text messages', 'not sent', 1), cell('text messages', 'left to an operator: not sent', 1), 'sms: none lost silently');
cmp_ok(cell('text messages', 'sent twice or more', 0), '>', 0, 'sms: doubles without idem');
is(cell('text messages', 'the first worker was stopped', $_), 3, "sms: stopped, way $_") foreach 0, 1;
is(cell('text messages', 'the first worker was killed', $_), 2, "sms: killed, way $_") foreach 0, 1;
is(cell('flash sale', 'pieces sold', 0), cell('flash sale', 'pieces offered', 0), 'sale: all sold, none oversold');
is(cell('flash sale', 'of them while enough was there', 0), 0, 'sale: nobody was turned away while enough was there');
cmp_ok(cell('flash sale', 'pieces sold that were not there', 3), '>', 0, 'sale: oversold without idem');
like($demo->{out}, qr/^without: plain +\|#+ [1-9]/m, 'orders: a bar of the doubles');
like($demo->{out}, qr/^idem_stock_reserve +\|#+ \d+/m, 'sale: a bar');

# Ctrl-C, at a moment at which a worker is stopped
$demo = demo('sms', '--messages', '1000000');
sleep 0.01 until grep({ $_ eq 'T' } processes("$demo->{dir}")) || !$demo->{run}->pumpable;
$demo->{run}->signal('INT');
$demo->{run}->finish;
is($demo->{run}->full_result >> 8, 130, 'status after Ctrl-C') or diag("$demo->{out}\n$demo->{err}");
is_tidy($demo, 'after Ctrl-C');

done_testing();
