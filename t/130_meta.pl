# META.json says of the distribution what PGXN's specification 1.0.0 asks for, and what the other files say.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $meta = eval { JSON::PP->new->utf8->decode(slurp_file("$top/META.json")) };
is($@, '', 'META.json is JSON');

my $semver = qr/^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[A-Za-z][0-9A-Za-z-]*)?$/;
my $term = qr{^[^\s/\\\p{Cntrl}]{2,}$};
my %known = map { $_ => 1 }
  qw(name abstract description version maintainer license prereqs provides release_status generated_by meta-spec no_index resources tags);

# what must be there, and nothing that the specification does not know
my @lacking = grep { !defined $meta->{$_} } qw(name abstract version maintainer license provides meta-spec);
is("@lacking", '', 'every required key is there');
my @unknown = grep { !$known{$_} && !/^x_/i } sort keys %$meta;
is("@unknown", '', 'no key is unknown');
like($meta->{name}, $term, 'name is a term');
like($meta->{version}, $semver, 'version is a semantic version');
ok(length $meta->{abstract} && $meta->{abstract} !~ /\n/, 'abstract is a line');
is(ref $meta->{maintainer}, 'ARRAY', 'maintainer is a list');
is($meta->{license}, 'postgresql', 'license by its name');
like(slurp_file("$top/LICENSE"), qr/^PostgreSQL License\n/, '… which is that of LICENSE');
is($meta->{'meta-spec'}{version}, '1.0.0', 'version of the specification');
is($meta->{'meta-spec'}{url}, 'https://pgxn.org/meta/spec.txt', '… and its address');
like($meta->{release_status}, qr/^(?:stable|testing|unstable)$/, 'release_status is one of three');
ok(!(grep { ref || length > 255 || m{[/\\\p{Cntrl}]} } @{ $meta->{tags} }), 'tags are tags');
foreach my $phase (sort keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(?:configure|build|test|runtime|develop)$/, "prereqs: phase $phase");
	foreach my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		like($relation, qr/^(?:requires|recommends|suggests|conflicts)$/, "prereqs: relation $relation");
		like($_, $semver, 'prereqs: version') foreach values %{ $meta->{prereqs}{$phase}{$relation} };
	}
}

# the extension
my $idem = $meta->{provides}{idem};
is(join(' ', sort keys %{ $meta->{provides} }), 'idem', 'provides idem');
like($idem->{version}, $semver, '… in a semantic version');
ok(-f "$top/$idem->{$_}", "… $_ is there") foreach 'file', 'docfile';

# what the others say
my ($default) = slurp_file("$top/idem.control") =~ /^default_version = '([^']*)'/m;
is($idem->{file}, "idem--$default.sql", 'file is the script of the default version');
is($idem->{version}, $default =~ /\..*\./ ? $default : "$default.0", 'version is the default version');
is($meta->{version}, $idem->{version}, 'the distribution has the version of its extension');
my ($needed) = slurp_file("$top/src/compat.h") =~ /PG_VERSION_NUM < (\d\d)0000\n#error/;
is($meta->{prereqs}{runtime}{requires}{PostgreSQL}, "$needed.0.0", 'the oldest server is that of compat.h');
my ($debian) = slurp_file("$top/debian/changelog") =~ /^idem \(([^)]*)\)/;
is($debian, $meta->{version}, 'so has the Debian package');
is(slurp_file("$top/debian/pgversions"), "$needed+\n", '… for the same servers');

done_testing();
