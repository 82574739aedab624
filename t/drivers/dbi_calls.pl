# Perl DBI with DBD::Pg: parameters are untyped; the SQLSTATE is $dbh->state
use strict;
use warnings;

use DBI;

my $dbh = DBI->connect('dbi:Pg:', '', '', { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_bool_tf => 1 });
local $| = 1;
local $SIG{__WARN__} = sub { };
print "version\tDBD::Pg $DBD::Pg::VERSION\n";

while (my $line = <STDIN>)
{
	chomp $line;
	my ($mode, $sql, @rest) = split /\t/, $line, -1;
	my @params;

	while (my ($kind, $value) = splice @rest, 0, 2)
	{
		push @params, $kind =~ /s$/ ? [ split /,/, $value ] : $value;
	}
	my $rows = eval {
		$dbh->begin_work if $mode eq 'block';
		my $sth = $dbh->prepare($sql);
		$sth->execute(@params);
		$sth->{NUM_OF_FIELDS} ? $sth->fetchall_arrayref : [];
	};
	if ($rows)
	{
		print "ok\t" . join('/', map { join ',', map { $_ // '' } @$_ } @$rows) . "\n";
	}
	else
	{
		print "error\t" . $dbh->state . "\t" . ($@ =~ s/\s+/ /gr) . "\n";
	}
	$dbh->rollback unless $dbh->{AutoCommit};
}
