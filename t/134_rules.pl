# Pins that script/lint's rules find what they are for: each breach is planted in a copy of the sources, and must be named.

use strict;
use warnings;

use Cwd 'abs_path';
use File::Copy;
use File::Path 'make_path';
use File::Temp;
use FindBin;
use Test::More;

my $top = abs_path("$FindBin::RealBin/..");
my $dir = File::Temp::tempdir(CLEANUP => 1);

chdir $top or die "$top: $!";
foreach my $file (glob 'idem.c idem--*.sql README.md src/*.[ch] doc/*.md sql/*.sql specs/*.spec t/*.p[lm]')
{
	my ($folder) = $file =~ m{(.*/)};
	make_path("$dir/" . ($folder // ''));
	copy($file, "$dir/$file") or die "$file: $!";
}

# found(): what the rules find in the copy
sub found { return qx{$^X "$top/script/lib/rules.pl" "$dir"}; }

is(found(), '', 'nothing in what is here');

my @direct = (
	'heap_update(rel, tid, tuple)', 'simple_heap_delete(rel, tid)', 'idem_heap_update(rel, tid, tuple)', 'table_tuple_lock(rel, tid)',
	'scan = systable_beginscan(rel, index)', 'index_rescan(scan)', 'idem_index_beginscan(rel, index)', 'buffer = ReadBuffer(rel, 0)');
foreach my $planted (
	[ 'src/idem.h', qq{#include "store.h"\n}, qr{store\.h is neither of the family idem nor below it} ],
	[ 'src/target.c', qq{#include "claim.h"\n}, qr{claim\.h is neither of the family target} ],
	[ 'src/claim.c', qq{#include "stock.h"\n}, qr{stock\.h is neither of the family claim} ],
	[ 'src/new.c', qq{#include "plan.h"\n#include "store.h"\n}, qr{store\.h is neither of the family plan} ],
	[ 'src/new.h', qq{#include "idem.h"\n}, qr{the family new is not in the list} ],
	[ 'src/row.c', "#if PG_VERSION_NUM >= 170000\n", qr{in src/compat\.h only} ],
	[ 'src/row.c', qq{\tquery = "SELECT quantity FROM idem.stock";\n}, qr{SQL stands in} ],
	[ 'src/claim.c', qq{#include "store_route.h"\n}, qr{store_route\.h is neither of the family claim} ],
	[ 'src/bucket.c', join('', map { "\t$_;\n" } @direct), qr{tables are reached in.*\n(?:.*\n){$#direct}\z} ],
	[ 'src/bucket.c', "\trel = store->heap;\n", qr{the fields of an IdemStore} ],
	[ 'src/new.c', qq{#include "store.h"\n}, qr{its map does not name src/new\.c}, 'idem.c' ],
	[ 'src/stock.h', "extern IdemTable idem_new_table;\n", qr{does not list the statements of idem_new_table}, 'src/statements.c' ],
	[ 'src/arg.c', "/* */\n" x 800, qr{more than 800 lines} ],
	[ 'src/idem.h', "/* */\n" x 170, qr{more than 170 lines} ],
	[ 'idem--1.0.sql', "CREATE OR REPLACE VIEW v AS SELECT 1;\n", qr{never adopts} ],
	[ 'idem--1.0.sql', "CREATE FUNCTION \@extschema\@.idem_new() RETURNS void\n", qr{idem_new has no COMMENT} ],
	[ 'sql/claim.sql', "CREATE FUNCTION pg_temp.try(stmt text) RETURNS text LANGUAGE sql\n", qr{stands in sql/include} ],
	[ 'sql/claim.sql', '-- TO' . "DO\n", qr{unfinished} ],
	[ 't/001_storm.pl', 'my $user = get' . "pwuid(\$>);\n", qr{superuser} ],
	[ 't/999_new.pl', "use PostgreSQL::Test::Cluster;\n", qr{load t/Hermetic\.pm} ],
	[ 'sql/new.sql', "SELECT 1;\n", qr{does not name sql/new\.sql}, 'doc/testing.md' ])
{
	my ($file, $text, $finding, $where) = @$planted;
	my $before = -e "$dir/$file" ? do { open my $in, '<', "$dir/$file" or die $!; local $/; <$in> } : undef;

	open my $out, '>>', "$dir/$file" or die "$file: $!";
	print $out $text;
	close $out or die "$file: $!";
	$where //= $file;
	like(found(), qr{^\Q$where\E:\d+: .*$finding}m, "$file: $finding");

	unlink "$dir/$file" or die "$file: $!";
	next unless defined $before;
	open $out, '>', "$dir/$file" or die "$file: $!";
	print $out $before;
	close $out or die "$file: $!";
}

done_testing();
