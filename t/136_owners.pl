# Owners are names, so that nobody reads what is not theirs: not after dump and restore into a cluster whose roles have other numbers,
# not after pg_upgrade, not in a subscription that copies rows in binary. A role that was renamed or dropped leaves its records to
# superusers; whoever makes a role of that name owns them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init(allows_streaming => 'logical');
$old->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$old->start;
my @roles = qw(stays renamed dropped again);
$old->safe_psql('postgres', join '', 'CREATE EXTENSION idem;', map { "CREATE ROLE $_ LOGIN;" } @roles);
$old->safe_psql('postgres', q{SELECT idem_stock_add('item', 100)});
foreach my $role (@roles)
{
	$old->safe_psql('postgres', <<"SQL", extra_params => [ '-U', $role ]);
SELECT idem_claim('s', '$role'), idem_respond('s', '$role', '"secret of $role"');
SELECT idem_begin('s', '$role attempt', '1 day'), idem_lock('$role', '1 day'), idem_stock_reserve('s', '$role', 'item', 1);
SQL
}
$old->safe_psql('postgres', 'ALTER ROLE renamed RENAME TO other; DROP ROLE dropped; DROP ROLE again; CREATE ROLE again LOGIN');

# what ROLE gets of what NAME recorded: an answer, a lease, a lock, a hold
sub gets
{
	my ($node, $role, $name) = @_;
	return join ' ', map { sqlstate($node, $_, extra_params => [ '-U', $role ]) || 'got' } "SELECT idem_response('s', '$name')",
		"SELECT idem_renew('s', '$name attempt', 1)", "SELECT idem_lock_renew('$name', 1)", "SELECT idem_stock_confirm('s', '$name')";
}

my ($all, $none) = ('got got got got', '42501 42501 42501 42501');

# judge(NODE, WHAT): whoever may, gets it, and nobody else
sub judge
{
	my ($node, $what) = @_;

	is(gets($node, 'stays', 'stays'), $all, "$what: a role has what it recorded");
	is(gets($node, 'again', 'again'), $all, "$what: so has a role that was made again");
	is(gets($node, 'other', 'renamed'), $none, "$what: a renamed role left it behind");
	foreach my $name (qw(renamed dropped)) { is(gets($node, 'stays', $name), $none, "$what: nobody has what $name left") }
	foreach my $name (qw(stays again)) { is(gets($node, 'other', $name), $none, "$what: nobody has what belongs to $name") }
	is(gets($node, 'postgres', $_), $all, "$what: a superuser has all, $_") foreach qw(renamed dropped);
	return;
}

# A cluster with the same names, whose numbers are others: the first role of the one has the number of the last of the other.
sub other_cluster
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nwal_level = logical\n");
	$node->start;
	$node->safe_psql('postgres', join '', map { "CREATE ROLE $_ LOGIN;" } reverse 'stays', 'other', 'again');
	return $node;
}

judge($old, 'where it was recorded');

#
# Dump and restore
#
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$old->command_ok([ 'pg_dump', '-d', $old->connstr('postgres'), '-f', $dump ], 'pg_dump');
my $restored = other_cluster('restored');
$restored->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $restored->connstr('postgres'), '-f', $dump ], 'restored');
judge($restored, 'restored');
is($restored->safe_psql('postgres', q{SELECT idem_reassign('renamed', 'other')}), 4, 'what was left behind is moved');
is(gets($restored, 'other', 'renamed'), $all, '… to whom it belongs');
$restored->stop;

#
# A subscription in binary
#
my $subscriber = other_cluster('subscriber');
$subscriber->safe_psql('postgres', q{CREATE EXTENSION idem; SELECT idem_stock_add('item', 100); DELETE FROM idem.stock});
$old->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE idem.claim, idem.lock, idem.hold, idem.stock');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $old->connstr . " dbname=postgres user=postgres' PUBLICATION p WITH (binary = true)");
$subscriber->wait_for_subscription_sync($old, 's');
judge($subscriber, 'subscriber, what was there');
$old->safe_psql('postgres', q{SELECT idem_claim('s', 'later'), idem_respond('s', 'later', '1')}, extra_params => [ '-U', 'again' ]);
$old->wait_for_catchup('s');
is(sqlstate($subscriber, q{SELECT idem_response('s', 'later')}, extra_params => [ '-U', 'stays' ]), '42501', 'subscriber: what came later is not for another role');
is($subscriber->safe_psql('postgres', q{SELECT idem_response('s', 'later')}, extra_params => [ '-U', 'again' ]), '1', '… and is for its own');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;

#
# pg_upgrade, to a cluster of the same version
#
SKIP: {
	my $new = PostgreSQL::Test::Cluster->new('new');

	skip 'no pg_upgrade here', 1 unless -x $old->config_data('--bindir') . '/pg_upgrade';
	$new->init;
	$old->stop;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $sockets = PostgreSQL::Test::Utils::tempdir_short();
	chdir $dir or die "$dir: $!";
	command_ok(
		[
			'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old->config_data('--bindir'), '-B', $new->config_data('--bindir'),
			'-s', $sockets, '-p', $old->port, '-P', $new->port, '-U', 'postgres'
		],
		'pg_upgrade');
	$new->start;
	judge($new, 'upgraded');
	$new->stop;
}

#
# From 16 on a membership may convey nothing
#
SKIP: {
	my $node = idem_node('membership');

	skip 'every membership lets SET ROLE before 16', 4 if $node->safe_psql('postgres', 'SHOW server_version_num') < 160000;
	$node->safe_psql('postgres', q{
		CREATE ROLE owner LOGIN;
		CREATE ROLE nothing LOGIN; GRANT owner TO nothing WITH INHERIT FALSE, SET FALSE;
		CREATE ROLE inherits LOGIN; GRANT owner TO inherits WITH INHERIT TRUE, SET FALSE;
		CREATE ROLE sets LOGIN; GRANT owner TO sets WITH INHERIT FALSE, SET TRUE});
	$node->safe_psql('postgres', q{SELECT idem_claim('s', '1')}, extra_params => [ '-U', 'owner' ]);
	is(sqlstate($node, q{SELECT idem_response('s', '1')}, extra_params => [ '-U', $_->[0] ]), $_->[1], "granted: $_->[0]")
		foreach [ nothing => '42501' ], [ inherits => '' ], [ sets => '' ];
	$node->stop;
}

# administrators who reassign at the same time wait for each other in one direction
{
	my $node = idem_node('together');
	my $script = $node->basedir . '/reassign.sql';

	append_to_file($script, "SELECT idem_reassign('nobody', current_user);\n");
	my ($out, $err) = run_command([ 'pgbench', '-n', '-C', '-c', 4, '-j', 2, '-t', 50, '-h', $node->host, '-p', $node->port, '-f', $script, 'postgres' ]);
	like($out, qr/failed transactions: 0 /, 'reassigned by four at once') or diag($err);
	$node->stop;
}

done_testing();
