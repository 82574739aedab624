# Judges a history: what transactions read and wrote, each object a chain of numbered versions, as Elle does for lists
# (Kingsbury, Alvaro, 2020). Version 0 is there from the start. A step is [TRANSACTION, OBJECT, GOT, MADE]: it saw
# version GOT and, if MADE is defined, put that one in its place. Only steps of committed transactions are given.
package History;

use strict;
use warnings;

# faults(SERIALIZABLE, STEP...): what is wrong, in words; nothing if all is well. At every level a version has one
# author and one successor, nobody saw a version that nobody committed, and nobody's sight is circular: then what was
# seen and replaced has an order. SERIALIZABLE: this order holds for what was read and replaced later as well.
sub faults
{
	my ($serializable, @steps) = @_;
	my (%author, %successor, %readers, %after, %wait, @faults);
	my $edge = sub {
		my ($from, $to) = @_;
		return if $from eq $to || $after{$from}{$to};
		$after{$from}{$to} = 1;
		$wait{$to}++;
	};

	foreach my $step (@steps)
	{
		my ($transaction, $object, $got, $made) = @$step;
		$readers{$object}{$got}{$transaction} = 1;
		next unless defined $made;
		push @faults, "$object: version $made is by $author{$object}{$made} and by $transaction" if exists $author{$object}{$made};
		push @faults, "$object: version $got was replaced by $successor{$object}{$got} and by $transaction" if exists $successor{$object}{$got};
		$author{$object}{$made} = $transaction;
		$successor{$object}{$got} = $transaction;
	}
	foreach my $object (sort keys %readers)
	{
		foreach my $version (sort { $a <=> $b } keys %{ $readers{$object} })
		{
			my $author = $author{$object}{$version};
			push @faults, "$object: version $version was seen, and nobody made it" if $version != 0 && !defined $author;
			foreach my $reader (keys %{ $readers{$object}{$version} })
			{
				$edge->($author, $reader) if defined $author;
				$edge->($reader, $successor{$object}{$version}) if $serializable && defined $successor{$object}{$version};
			}
		}
	}

	# who comes before nobody is left goes; what cannot go stands in a circle, or behind one
	my %left = map { $_->[0] => 1 } @steps;
	my @free = grep { !$wait{$_} } keys %left;
	while (defined(my $transaction = shift @free))
	{
		delete $left{$transaction};
		push @free, grep { !--$wait{$_} } keys %{ $after{$transaction} };
	}
	push @faults, 'no order for transactions ' . join ', ', (sort keys %left)[ 0 .. (keys %left > 9 ? 9 : keys(%left) - 1) ] if %left;
	return @faults;
}

1;
