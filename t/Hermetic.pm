# What surrounds a TAP test does not matter to it: who runs it, the language, the time zone, the umask, settings in a home directory.
# Each test loads this, itself or through one of the other modules here; script/lint rules sees to it.
#
# A server that is made has the encoding UTF8 and the locale C, and the superuser postgres, whoever the user of the operating system is, and every program connects as
# that one if nothing else is said. So a test may make any other role.
package Hermetic;

use strict;
use warnings;

use File::Temp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our $superuser = 'postgres';

# PostgreSQL::Test::Utils has cleared the variables of libpq
$ENV{PGUSER} = $superuser;
$ENV{LC_ALL} = 'C';
$ENV{TZ} = 'UTC';
$ENV{HOME} = File::Temp::tempdir(CLEANUP => 1);
delete @ENV{qw(PGOPTIONS PGTZ PGDATESTYLE PGSYSCONFDIR PGPASSFILE PSQLRC PSQL_PAGER PAGER)};
umask 022;

# PostgreSQL::Test::Cluster's own, with a name for the superuser
my $init = \&PostgreSQL::Test::Cluster::init;

no warnings 'redefine';
*PostgreSQL::Test::Cluster::init = sub {
	my ($node, %params) = @_;

	$params{extra} = [ '-U', $superuser, '--encoding=UTF8', '--locale=C', @{ $params{extra} // [] } ];
	return $node->$init(%params);
};

1;
