# What a call has judged of its order may be past when it finds the stock short: then it looks again. The call stands still between the
# two, for it must read the catalog of roles, whose cache was made stale, and which is locked.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = idem_node('judged');
$node->safe_psql('postgres', q{CREATE ROLE buyer LOGIN});

# what it is, what the call is, what others do meanwhile, the answer
my @cases = (
	[
		'an item of two is taken for the order by another call',
		q{idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}')},
		q{SELECT idem_stock_reserve('s', '1', 'a', 3), idem_stock_reserve('x', '1', 'a', 5)}, 't'
	],
	[ 'both items are', q{idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}')}, q{SELECT idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}'), idem_stock_reserve('x', '1', 'a', 5)}, 't' ],
	[ 'nothing is: it is short', q{idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}')}, q{SELECT idem_stock_reserve('x', '1', 'a', 6)}, 'f' ],
	[ 'the order is released', q{idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}')}, q{SELECT idem_stock_release('s', '1'), idem_stock_reserve('x', '1', 'a', 6)}, 'f' ],
	[ 'the order is confirmed', q{idem_stock_reserve_items('s', '1', '{a,b}', '{3,1}')}, q{SELECT idem_stock_confirm('s', '1'), idem_stock_reserve('x', '1', 'a', 6)}, 'ERROR ID412' ],
	[ 'an amendment is made twice', q{idem_stock_amend('s', '1', 'c', 9)}, q{SELECT idem_stock_amend('s', '1', 'c', 9)}, 't' ],
	[ 'another amendment is made', q{idem_stock_amend('s', '1', 'c', 9, 2)}, q{SELECT idem_stock_amend('s', '1', 'c', 4, 2)}, 'ERROR ID412' ],
	[ 'the rest is sold: it is short', q{idem_stock_amend('s', '1', 'c', 9, 2)}, q{SELECT idem_stock_reserve('x', '1', 'c', 5)}, 'f' ],
	[ 'the order is confirmed, the rest is sold', q{idem_stock_amend('s', '1', 'c', 9, 2)}, q{SELECT idem_stock_confirm('s', '1'), idem_stock_reserve('x', '1', 'c', 5)}, 'ERROR ID412' ],
	[ 'the rest is sold, of an item that the order does not have', q{idem_stock_amend('s', '1', 'b', 9)}, q{SELECT idem_stock_reserve('x', '1', 'b', 5)}, 'f' ]);

for my $route (qw(off on))
{
	for my $level ('read committed', 'repeatable read')
	{
		my ($admin, $client) = (IdemTest::Session->new($node), IdemTest::Session->new($node, user => 'buyer'));

		$client->ask($_) foreach "SET idem.force_sql = $route", "SET default_transaction_isolation = '$level'";
		for my $case (@cases)
		{
			my ($what, $call, $meanwhile, $wanted) = @$case;

			$admin->ask(q{DELETE FROM idem.hold; DELETE FROM idem.stock; SELECT idem_stock_add('a', 8), idem_stock_add('b', 10), idem_stock_add('c', 10)});
			$client->ask(q{SELECT idem_stock_reserve('s', '1', 'c', 2)});
			# what the call needs of the catalogs is known
			$client->ask($_) foreach 'BEGIN', "SELECT $call", 'ROLLBACK';
			$client->stop_at_roles($admin, 'buyer', "SELECT pg_advisory_xact_lock_shared(1) IS NOT NULL AND $call");
			unlike($admin->ask($meanwhile), qr/ERROR|f/, "force_sql $route, $level: $what");
			$admin->ask('COMMIT');
			is($client->answer, $wanted, '… and what the call answers');
			is($admin->ask(q{SELECT string_agg(t, ' ' ORDER BY t) FROM (SELECT item || (sum(q)) AS t FROM (SELECT item, quantity FROM idem.stock
				UNION ALL SELECT item, quantity FROM idem.hold, unnest(items, quantities) AS u (item, quantity) WHERE status IN ('h', 'c')) AS u (item, q) GROUP BY item) AS v}),
				'a8 b10 c10', '… and the books balance');
		}
		$_->end for $admin, $client;
	}
}

done_testing();
