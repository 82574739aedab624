# A copy of the server below a temporary directory, whose directory of extensions may be written to.
package CopiedServer;

use strict;
use warnings;

use Exporter 'import';
use File::Path 'make_path';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(copied_server);

# copied_server(): where it is installed, for PostgreSQL::Test::Cluster, and the directory of its extensions. Skips the test where the server cannot be copied:
# it must find its files relative to its programs.
sub copied_server
{
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	my $root = PostgreSQL::Test::Utils::tempdir();
	my ($bin, $share, $lib) = map { chomp(my $dir = `$pg_config --$_`); $dir } 'bindir', 'sharedir', 'pkglibdir';

	plan skip_all => 'this server is started by a script' if -e "$bin/postgres.plain";
	make_path("$root$bin", "$root$share", "$root$lib");
	system('cp', '-RL', "$share/.", "$root$share") == 0 or die "cp: $share";
	foreach my $program (map { "$bin/$_" } qw(postgres initdb psql pg_ctl pg_config pg_dump))
	{
		system('cp', '-Lp', $program, "$root$bin") == 0 or die "cp: $program";
	}
	foreach my $library (glob("$lib/*.so"), glob("$lib/*_decoders")) { symlink $library, "$root$lib/" . substr($library, length "$lib/") or die $!; }
	plan skip_all => 'this server cannot be copied' if `$root$bin/pg_config --sharedir` ne "$root$share\n";
	(my $prefix = $bin) =~ s{/bin$}{};
	return ("$root$prefix", "$root$share/extension");
}

1;
