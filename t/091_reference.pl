# Pins doc/reference.md: it says what the catalog says. If it does not, script/reference writes it anew.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem');

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
my ($page, $err) = run_command([ $^X, 'script/lib/reference.pl' ]);

is($err, '', 'the page can be made');
my @now = split /\n/, $page;
my @then = split /\n/, slurp_file('doc/reference.md');
my $line = 0;
$line++ while $line < @now && $line < @then && $now[$line] eq $then[$line];
is($then[$line] // 'the end', $now[$line] // 'the end', 'doc/reference.md is up to date, else: script/reference; line ' . ($line + 1));

# a function that is added without a word on whether it writes or waits stops it
$node->safe_psql('postgres', q{CREATE FUNCTION idem_new() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION idem ADD FUNCTION idem_new()});
($page, $err) = run_command([ $^X, 'script/lib/reference.pl' ]);
like($err, qr/^add to script\/lib\/reference\.pl: idem_new$/m, 'a new function is missed');

$node->stop;
done_testing();
