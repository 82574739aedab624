# extension_control_path (PostgreSQL 18): idem installed into a directory of its own, and run from there.

use strict;
use warnings;

use File::Basename;
use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my ($major) = `$pg_config --version` =~ /^PostgreSQL (\d+)/;

plan skip_all => 'extension_control_path came with PostgreSQL 18' if $major < 18;

# the makefiles are where pg_regress is: a copied server (script/test) has none
my $dir = PostgreSQL::Test::Utils::tempdir();
my $pgxs = dirname(dirname(dirname($ENV{PG_REGRESS}))) . '/makefiles/pgxs.mk';
command_ok(
	[ 'make', '-s', '-C', "$FindBin::RealBin/..", 'install', 'with_llvm=no', "PG_CONFIG=$pg_config", "PGXS=$pgxs", "datadir=$dir/share", "pkglibdir=$dir/lib" ],
	'make install datadir=… pkglibdir=…');
ok(-f "$dir/$_", "$_ is there") foreach 'lib/idem.so', 'share/extension/idem.control', 'share/extension/idem--1.0.sql';

# what is installed is told from what the system may have by its comment
my $control = slurp_file("$dir/share/extension/idem.control");
$control =~ s/^comment = .*/comment = 'from a directory of its own'/m;
open my $file, '>', "$dir/share/extension/idem.control" or die $!;
print $file $control;
close $file;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<"CONF");
extension_control_path = '$dir/share:\$system'
dynamic_library_path = '$dir/lib:\$libdir'
CONF
$node->start;

is($node->safe_psql('postgres', "SELECT comment FROM pg_available_extensions WHERE name = 'idem'"),
	'from a directory of its own', 'the control file is that one');
$node->safe_psql('postgres', 'CREATE EXTENSION idem');
my ($claims, $loaded) = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT idem_claim('a', '1'), idem_claim('a', '1');
SELECT string_agg(DISTINCT substring(line FROM '/[^ ]*$'), ' ') FROM regexp_split_to_table(pg_read_file('/proc/' || pg_backend_pid() || '/maps'), '\n') line WHERE line ~ '/idem\.so';
SQL
is($claims, 't|f', 'a claim and its duplicate');
is($loaded, "$dir/lib/idem.so", 'the library is that one');

# dumped and restored, also by a server that is told the same
command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $node->connstr('copy') ], 'restore');
is($node->safe_psql('copy', "SELECT idem_claim('a', '1')"), 'f', 'the key is there');

$node->stop;
done_testing();
