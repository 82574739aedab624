# The disk is full under 16 clients doing all primitives: first that of the tables, where requests fail and are sent again until
# there is room; then that of the WAL, where the server must stop with a PANIC, and is started when there is room. Every promise is
# kept after each. IDEM_FAULT_DISKS: how often. The disks are tmpfs in a mount namespace of our own: where that is not
# permitted the test is skipped.
# soak: IDEM_FAULT_DISKS=10

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Cwd qw(abs_path);
use Test::More;
use Time::HiRes qw(time usleep);

BEGIN
{
	my @namespace = ('unshare', '--map-current-user', '--mount', '--keep-caps');

	if (!$ENV{IDEM_IN_NAMESPACE})
	{
		my $refused = `@namespace sh -c 'mount -t tmpfs none /mnt' 2>&1`;

		plan(skip_all => 'no mount namespace to be had: ' . ($refused =~ s/\n.*//sr)) if $?;
		$ENV{IDEM_IN_NAMESPACE} = 1;
		exec @namespace, $^X, (map { "-I$_" } @INC), abs_path($0) or die "unshare: $!";
	}
}

use Oracle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

my $wanted = $ENV{IDEM_FAULT_DISKS} // 1;
my $started = time;
my $times = 0;
my $node = PostgreSQL::Test::Cluster->new('disk');

# segments of 1 MB: the WAL needs new files all the time
$node->init(extra => [ '--wal-segsize', '1' ]);
Oracle::load_conf($node, 'max_wal_size = 20MB', 'min_wal_size = 2MB', 'wal_recycle = off');
small_disk('base', '64m');
small_disk('pg_wal', '40m');
$node->start;
Oracle::load_tables($node);
my $load = Load->new($node);

# The directory of the server is on a disk of its own from now on.
sub small_disk
{
	my ($what, $size) = @_;
	my $path = $node->data_dir . "/$what";

	# what is there already lies below the mount, and is copied up from where the mount does not hide it
	system_or_bail('cp', '-a', $path, "$path.old");
	system_or_bail('mount', '-t', 'tmpfs', '-o', "size=$size,mode=0700", 'none', $path);
	system_or_bail('cp', '-a', "$path.old/.", $path);
	system_or_bail('rm', '-r', "$path.old");
	return;
}

# Fills it up, but for so many bytes.
sub fill
{
	my ($what, $left) = @_;
	my $path = $node->data_dir . "/$what/filler";

	open my $filler, '>', $path or die "$path: $!";
	1 while syswrite $filler, "\0" x 65536;
	truncate $filler, (-s $filler) - $left or die "$path: $!";
	close $filler;
	return;
}

# Makes room again.
sub make_room { unlink $node->data_dir . "/$_[0]/filler" or die "filler: $!"; return; }

# Does the server serve?
sub serves { return ($node->psql('postgres', 'SELECT 1'))[0] == 0; }

foreach my $n (1 .. $wanted)
{
	my $offset = -s $node->logfile;

	# the server's own cache of its catalog
	$load->{expected} = qr/could not write init file/;
	$load->start;
	$load->await(50);
	fill('base', 0);
	$node->wait_for_log(qr/ 53100 ERROR: /, $offset);
	usleep(200_000);
	make_room('base');
	$load->await(50);
	$load->stop;
	judged($load, "disk of the tables full, $n") or last;

	$offset = -s $node->logfile;
	$load->{expected} = qr{PANIC:  could not write to file "pg_wal/|terminated by signal 6};
	$load->start;
	$load->await(50);
	fill('pg_wal', 65536);
	$node->psql('postgres', 'SELECT pg_switch_wal()');    # or what is left of the segment would have to be filled first
	$node->wait_for_log(qr{PANIC:  could not write to file "pg_wal/.*No space left}, $offset);
	usleep(200_000);
	make_room('pg_wal');
	until (serves())
	{
		usleep(50_000);
		# it may have found no room for its recovery either, and have given up
		next if (readlink "/proc/$node->{_pid}/cwd" // '') eq $node->data_dir;
		Oracle::buried($node);
		$node->start;
	}
	$load->await(50);
	$load->stop;
	judged($load, "disk of the WAL full, $n") or last;
	$times++;
	last if time_is_up();
	$load = fresh($load);
}

my $wrong = Load->new($node, kinds => 'apart');
my $found = '';
foreach (1 .. 10)
{
	my $offset = -s $node->logfile;

	$wrong->start;
	$wrong->await(50);
	fill('base', 0);
	$node->wait_for_log(qr/ 53100 ERROR: /, $offset);
	# long enough that the disk is full for effects, too, and not only for their claims
	usleep(300_000);
	make_room('base');
	$wrong->stop;
	$found = verdict($wrong);
	last if $found ne '';
}
like($found, qr/^lost: apart \d+ was acknowledged/m, 'the oracle catches a wrong way: apart');

figures("$times times the disk of the tables full, $times times that of the WAL", $started);
$node->stop;
done_testing();
