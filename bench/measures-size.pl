# What script/bench measures of large tables and long times: see measures.pl.

use strict;
use warnings;
use utf8;

# P10, for tables of a size (an index of what run.pl has for the effort) and keys of a shape
sub among_many
{
	my ($size, $shape) = @_;
	my $name = { random => 'random UUID', v7 => 'UUIDv7', ascending => 'ascending numbers' }->{$shape};
	my %common = (
		id => 'P10', core => 1, lower => 1, kind => 'large', n => 1_000, size => $size, shape => $shape, with => "keys: $name",
		a => q{done := idem_claim('bench', k)},
		b => q{INSERT INTO bare VALUES ('bench', k, clock_timestamp()) ON CONFLICT DO NOTHING; done := FOUND});

	return (
		{ %common, of => 'each', what => 'first claim, many keys in the table', against => 'bare INSERT into a table of as many' },
		$shape eq 'random'
		? {
			%common, of => 'lost', floor => 1, goal => 0.8,
			what => 'time that a first claim loses to many keys', against => 'time that the bare INSERT loses to as many'
		  }
		: (),
		$size == 1 && $shape ne 'v7'
		? {
			%common, of => 'more', floor => 1.5, goal => 1.15,
			what => 'first claim, many keys in the table', against => 'first claim, 10,000 keys in the table'
		  }
		: (),
		$size == 1 && $shape eq 'random'
		? { %common, of => 'other', core => 0, a => $common{b}, what => 'bare INSERT, many keys in the table', against => 'bare INSERT, 10,000 keys in the table' }
		: (),
		{
			%common, of => 'wal',
			what => 'WAL bytes of a first claim after a checkpoint, many keys in the table', against => 'bare INSERT into a table of as many'
		});
}

# P14: what is compared, and its limits
my @of = (
	[ '', of => 'rate', floor => 0.8, goal => 1.1 ],
	[ 'WAL bytes of ', of => 'wal', lower => 1, floor => 1 ],
	[ 'processor time of ', of => 'processor', lower => 1 ]);

sub purge
{
	my ($what, $a, @kinds) = @_;

	return map {
		my ($prefix, @rest) = @$_;
		{
			id => 'P14', core => 1, what => "$prefix$what", against => 'DELETE of ranges of blocks, with a commit after 10,000 rows',
			kind => 'purge', a => $a, b => q{CALL purge_blocks('100 days', 10000)}, @rest
		}
	} @kinds;
}

return [
	map({ my $size = $_; map { among_many($size, $_) } qw(random v7 ascending) } 0, 1),
	purge('idem_purge', q{CALL idem_purge('100 days')}, @of),
	purge('idem_purge by a policy', q{DO $$ BEGIN PERFORM idem_policy('random', '100 days'); COMMIT; CALL idem_purge(); END $$}, $of[0]),
	{
		id => 'P15', core => 1, lower => 1, named => 1,
		what => 'p99 of a first claim at 1,000 a second, idem_purge every minute, autovacuum on, last ten minutes',
		against => 'the same without purge',
		with => 'keys: random UUID', kind => 'soak', clients => [ 8 ], rate => 1_000,
		a => [ [ pg => q{SELECT idem_claim('bench', :uuid)}, 't' ] ],
		floor => 1.5, goal => 1.1,
	},
];
