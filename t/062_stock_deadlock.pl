# Pins that calls for several items in any order never deadlock, also when each needs several buckets, when others give back,
# and at each isolation level; and that the books balance at every moment.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;

my $rounds = $ENV{IDEM_STOCK_ROUNDS} || 500;
my @routes = ('off', 'on');
my $node = stock_server('deadlock', "deadlock_timeout = '50ms'");

$node->safe_psql('postgres', q{SELECT idem_stock_add('a', 30, 3), idem_stock_add('b', 30, 4), idem_stock_add('c', 30)});

# looks at the books while others write: one snapshot must always balance
$node->safe_psql('postgres', <<'END');
CREATE TABLE wrong (what text);
CREATE PROCEDURE look(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		INSERT INTO wrong SELECT item || ': ' || books(item, 30) FROM unnest('{a,b,c}'::text[]) AS item WHERE books(item, 30) <> 'balance';
		COMMIT;
	END LOOP;
END $$;
END

sub deadlocks { return $node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()}) }

foreach my $route (@routes)
{
	$node->append_conf('postgresql.conf', "idem.force_sql = $route\n");
	$node->reload;

	# opposite orders, quantities that need several buckets, and somebody who gives back and expires
	my $buy = sub {
		my ($level, $items) = @_;

		# no number comes twice: with another quantity it would be ID422
		return "\\set n random(1, 1000000000000000)\n\\set q random(1, 14)\nBEGIN ISOLATION LEVEL $level;\n"
		  . "SELECT idem_stock_reserve_items('$route', :n::text, ARRAY[$items], ARRAY[:q, :q, :q]);\nCOMMIT;\n"
		  . "SELECT idem_stock_release('$route', :n::text);\n";
	};
	my $looking = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'CALL look(' . 2 * $rounds . ')' ], '>', \my $ignored, '2>&1');
	my $printed = pgbench($node, [ '-c', 2, '-j', 2, '-t', $rounds ],
		[ $buy->('READ COMMITTED', "'a', 'b', 'c'") ], [ $buy->('READ COMMITTED', "'c', 'b', 'a'") ]);
	like($printed, qr{actually processed: @{[2 * $rounds]}/}, "route $route: two sessions, opposite orders");
	pgbench($node, [ '-c', 12, '-j', 2, '-t', int($rounds / 5) + 1 ],
		[ $buy->('READ COMMITTED', "'a', 'b', 'c'") ],
		[ $buy->('READ COMMITTED', "'c', 'a', 'b'") ],
		[ "\\set n random(1, 1000000000000000)\n\\set q random(1, 25)\nSELECT idem_stock_reserve('$route', :n::text, 'b', :q, '1 ms');\n" ],
		[ "CALL idem_stock_expire(3);\n" ]);
	pgbench($node, [ '-c', 6, '-j', 2, '-t', int($rounds / 5) + 1, '--max-tries=1000' ],
		[ $buy->('REPEATABLE READ', "'a', 'b', 'c'") ],
		[ $buy->('SERIALIZABLE', "'c', 'b', 'a'") ]);
	$looking->finish;
	is(deadlocks(), 0, "route $route: no deadlock")
	  or diag(slurp_file($node->logfile) =~ /(ERROR:  deadlock.*?)(?=\n\d{4}-[^\n]*ERROR|\z)/s);

	$node->safe_psql('postgres', q{SELECT pg_sleep(0.01)});
	$node->safe_psql('postgres', 'CALL idem_stock_expire()');
	is($node->safe_psql('postgres', q{SELECT idem_stock_available('a'), idem_stock_available('b'), idem_stock_available('c')}),
		'30|30|30', "route $route: all is given back");
	is(books($node, $_, 30), 'balance', "route $route: books of $_") foreach ('a', 'b', 'c');
}
is($node->safe_psql('postgres', 'SELECT count(*), min(what) FROM wrong'), '0|', 'the books balanced whenever somebody looked');

$node->stop;
done_testing();
