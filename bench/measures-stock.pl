# What script/bench measures of stock: see measures.pl.

use strict;
use warnings;
use utf8;

# the strongest plain way to take one of an item and to note who took it: one statement, one round trip
my $plain_sale = q{
	WITH j AS (INSERT INTO journal VALUES ('bench', :key, 'hot', 1, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING 1)
	UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'hot' AND quantity >= 1 AND EXISTS (SELECT FROM j)};


# reserve of a hot item against one row, by so many clients
sub hot
{
	my ($item, %rest) = @_;

	return {
		core => 1,
		against => 'conditional UPDATE of its one row, with a journal',
		kind => 'wire', fresh => 'idem.hold, journal', before => 'VACUUM idem.stock, plain_stock',
		note => "SELECT count(*) || CASE count(*) WHEN 1 THEN ' bucket' ELSE ' buckets' END FROM idem.stock WHERE item = '$item'",
		a => [ [ pg => "SELECT idem_stock_reserve('bench', :key, '$item', 1)", 't' ] ],
		b => [ [ pg => $plain_sale, '#1' ] ],
		%rest
	};
}

# reserve of what is sold out
sub sold_out
{
	my ($item, %rest) = @_;

	return {
		core => 1,
		against => 'UPDATE that matches nothing',
		kind => 'wire', clients => [ 16 ], before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => "SELECT idem_stock_reserve('bench', :key, '$item', 1)", 'f' ] ],
		b => [ [ pg => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1}, '#0' ] ],
		floor => 0.9,
		count => {
			a => "done := NOT idem_stock_reserve('bench', k, '$item', 1)",
			b => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1; done := NOT FOUND}
		},
		%rest
	};
}

return [
	hot('for 32', id => 'P12', what => 'reserve of a hot item, buckets not given', clients => [ 32 ], warm => 3, floor => 4, goal => 8),
	hot('for 16', id => 'P12', what => 'reserve of a hot item, buckets not given', clients => [ 16 ], warm => 3, floor => 5, goal => 8),
	hot('for one', id => 'P12', what => 'reserve of an item that nobody else wants, buckets not given', clients => [ 1 ], floor => 1.0),
	sold_out('none of one', id => 'P12', what => 'reserve of what is sold out, buckets not given'),
	{
		id => 'P12', core => 1, lower => 1,
		what => 'p99 of reserve beside idem_stock_expire, buckets not given', against => 'p99 of reserve alone',
		kind => 'p99', clients => [ 16 ], n => 100_000, item => 'for 16',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'for 16', 1)}, 't' ] ],
		floor => 2,
	},
	hot('hot', id => 'stock', what => 'reserve of a hot item, 16 buckets given', clients => [ 16 ]),
	sold_out('none', id => 'stock', what => 'reserve of what is sold out, 16 buckets given'),
];
