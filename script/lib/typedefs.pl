# Prints the names that the typedefs in the files make, one a line: pgindent wants to know them.
#
#	typedefs.pl FILE…
use strict;
use warnings;

local $/;
my %names;
while (my $text = <>)
{
	$names{$_} = 1 for $text =~ /^typedef\s+(?:struct|enum|union)\s+(\w+)/mg,
	  $text =~ /^typedef\s+(?:struct|enum|union)\b[^{;]*\{.*?^\}\s*(\w+);/msg,
	  $text =~ /^typedef\b[^;{]*?\b(\w+);/mg,
	  $text =~ /^typedef\b[^;{]*\(\*\s*(\w+)\)/mg;
}
print map { "$_\n" } sort keys %names;
