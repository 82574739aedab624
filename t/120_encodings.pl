# Pins what idem does with bytes: databases in UTF8, LATIN1 and SQL_ASCII, clients of other encodings, texts that are no
# texts (invalid, cut, NUL) through the extended protocol as text and as binary; keys are the same whoever asks for them,
# answers come back as they went, and what is wrong is refused before it reaches us, with the session alive.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use IO::Socket::UNIX;
use Test::More;

my $node = idem_node('encodings');
my $user = $ENV{PGUSER};

# A connection that speaks the protocol itself, for what libpq's clients would not send.
sub connection
{
	my ($database) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "no connection: $!";
	my $start = pack('N', 196608) . "user\0$user\0database\0$database\0\0";

	binmode $socket;
	$socket->print(pack('N', 4 + length $start) . $start);
	$socket->flush;
	answers($socket);
	return $socket;
}

# reads until the server is ready: the rows' values, and the SQLSTATE if there was an error
sub answers
{
	my ($socket) = @_;
	my (@values, $state);
	while (1)
	{
		my ($head, $body) = ('', '');
		read($socket, $head, 5) == 5 or return ('lost');
		my ($type, $length) = unpack 'aN', $head;
		read($socket, $body, $length - 4) if $length > 4;
		($state) = $body =~ /C(\w{5})\0/ if $type eq 'E';
		if ($type eq 'D')
		{
			my ($n, $rest) = unpack 'na*', $body;
			for (1 .. $n)
			{
				my $size = unpack 'N', $rest;
				if ($size == 0xffffffff) { push @values, undef; $rest = substr $rest, 4; next; }
				push @values, substr $rest, 4, $size;
				$rest = substr $rest, 4 + $size;
			}
		}
		return ($state // 'ok', @values) if $type eq 'Z';
	}
}

# runs SQL with these parameters, as they are: texts, or [ bytes ] for the binary format
sub ask
{
	my ($socket, $sql, @parameters) = @_;
	my $parse = "\0$sql\0" . pack('n', 0);
	my $bind = "\0\0" . pack('n*', scalar(@parameters), map { ref $_ ? 1 : 0 } @parameters) . pack('n', scalar @parameters)
	  . join('', map { my $bytes = ref $_ ? $_->[0] : $_; defined $bytes ? pack('N', length $bytes) . $bytes : pack('N', 0xffffffff) } @parameters) . pack('n', 0);
	my $execute = "\0" . pack('N', 0);
	my $message = '';

	$message .= $_->[0] . pack('N', 4 + length $_->[1]) . $_->[1] for [ P => $parse ], [ B => $bind ], [ E => $execute ], [ S => '' ];
	$socket->print($message);
	$socket->flush;
	return answers($socket);
}

# what is no UTF-8: a lone continuation, a cut sequence, overlong, a surrogate, beyond the last, bytes that never occur
my %invalid = ('lone continuation' => "\x80", 'cut' => "\xe2\x82", 'cut emoji' => "a\xf0\x9f\x98", 'overlong /' => "\xc0\xaf", 'overlong NUL' => "\xc0\x80", 'surrogate' => "\xed\xa0\x80", 'beyond U+10FFFF' => "\xf4\x90\x80\x80", 'FE' => "\xfe", 'FF' => "\xff\xff",
	'NUL within' => "a\0b", 'NUL alone' => "\0");
# every function by what takes a text
my @calls = ([ 'SELECT idem_claim($1, $2)', 2 ], [ 'SELECT idem_claim($1, $2, $3)', 3, 2, 'jsonb' ], [ 'SELECT * FROM idem_claim_batch($1, ARRAY[$2])', 2 ], [ 'SELECT idem_respond($1, $2, $3)', 3, 2, 'json' ], [ 'SELECT idem_lookup($1, $2)', 2 ], [ 'SELECT idem_response($1, $2)', 2 ],
	[ 'SELECT idem_cancel($1, $2)', 2 ], [ 'SELECT idem_forget($1, $2)', 2 ], [ 'SELECT idem_begin($1, $2)', 2 ], [ 'SELECT idem_complete($1, $2, 1, $3)', 3, 2, 'json' ], [ 'SELECT idem_lock($1)', 1 ], [ 'SELECT idem_unlock($1, 1)', 1 ],
	[ 'SELECT idem_token_issue($1, $2)', 2 ], [ 'SELECT idem_token_consume($1, $2, $3)', 3 ], [ 'SELECT idem_token_status($1, $2, $3)', 3 ], [ 'SELECT idem_machine($1, $2)', 2 ], [ 'SELECT idem_verdict($1, $2, $3)', 3 ],
	[ 'SELECT idem_stock_add($1, 1)', 1 ], [ 'SELECT idem_stock_available($1)', 1 ], [ 'SELECT idem_stock_reserve($1, $2, $3::text, 1)', 3 ], [ q{SELECT idem_deduct('product', 'stock', 1, $1::text)}, 1 ], [ q{SELECT idem_advance('m', 'product', 'status', $1, $2::text)}, 2 ]);

$node->safe_psql('postgres', "CREATE DATABASE $_->[0] ENCODING '$_->[1]' TEMPLATE template0 LOCALE 'C'") for [ latin => 'LATIN1' ], [ bytes => 'SQL_ASCII' ];
for my $database (qw(postgres latin bytes))
{
	$node->safe_psql($database, 'CREATE EXTENSION idem') unless $database eq 'postgres';
	$node->safe_psql($database, q{CREATE TABLE product (code text PRIMARY KEY, stock int, status text)});
}

{
	my $socket = connection('postgres');
	for my $route (qw(off on))
	{
		my @bad;
		ask($socket, "SET idem.force_sql = $route");
		for (@calls)
		{
			my ($sql, $n, $json) = @$_;
			for my $what (sort keys %invalid)
			{
				for my $binary (0, 1)
				{
					for my $i (0 .. $n - 1)
					{
						my @given = map { $_ == $i ? $invalid{$what} : 'x' } 0 .. $n - 1;
						$given[$json] = '"' . ($json == $i ? $given[$json] : '') . '"' if defined $json;
						# jsonb in binary has its version in front
						$given[$json] = "\1$given[$json]" if defined $json && $binary && $_->[3] eq 'jsonb';
						my ($state) = ask($socket, $sql, map { $binary ? [$_] : $_ } @given);

						push @bad, "$sql, $what as parameter $i" . ($binary ? ', binary' : '') . ": $state" unless $state eq '22021' || $state eq '22P02';
					}
				}
			}
		}
		is(join("\n", @bad), '', "force_sql $route: invalid bytes are refused, whatever function and parameter");
	}
	is((ask($socket, 'SELECT count(*) FROM idem.claim'))[1], '0', 'and nothing was recorded');
	is((ask($socket, 'SELECT 1'))[1], '1', 'the session goes on');
	# damaged binary values of other types
	for ([ 'SELECT idem_claim($1, $2, $3)', 's', 'k', ["\2{}"] ], [ 'SELECT idem_claim($1, $2, $3)', 's', 'k', ['x'] ], [ 'SELECT idem_lock($1, $2)', 'l', ["\0"] ], [ 'SELECT * FROM idem_claim_batch($1, $2)', 's', [ pack 'N*', 1, 0, 25, 1000000000, 1 ] ],
		[ 'SELECT * FROM idem_claim_batch($1, $2)', 's', [ pack('N*', 1, 0, 25, 1, 1) . pack('N', 5) . 'x' ] ], [ 'SELECT idem_stock_add($1, $2)', 'i', [ pack 'n*', 65535, 0, 0, 0 ] ], [ 'SELECT idem_unlock($1, $2)', 'l', ["\0\1"] ])
	{
		my ($sql, @given) = @$_;
		my ($state) = ask($socket, $sql, @given);
		# (jsonb's own reading has an elog for its version)
		like($state, $sql =~ /claim\(/ ? qr/^XX000$/ : qr/^(?:22P03|08P01|54000)$/, "damaged binary value: $sql: $state");
	}
	is((ask($socket, 'SELECT 1'))[1], '1', 'the session goes on');
}

# One database, clients of several encodings: the key is one
my $o = "\xf6";    # ö in LATIN1
my $utf = "\xc3\xb6";
for my $route (qw(off on))
{
	my $utf8 = connection('postgres');
	my $latin = connection('postgres');
	ask($_, "SET idem.force_sql = $route") for $utf8, $latin;
	ask($latin, "SET client_encoding = 'LATIN1'");
	is(join(' ', ask($utf8, 'SELECT idem_claim($1, $2)', "k $route", "h${utf}her")), 'ok t', "force_sql $route: claimed by a client in UTF8");
	is(join(' ', ask($latin, 'SELECT idem_claim($1, $2)', "k $route", "h${o}her")), 'ok f', 'known to one in LATIN1');
	is(join(' ', ask($latin, 'SELECT idem_respond($1, $2, $3)', "k $route", "h${o}her", qq({"a": "$o"}))), 'ok t', 'who answers it');
	is((ask($utf8, 'SELECT idem_response($1, $2)', "k $route", "h${utf}her"))[1], qq({"a": "$utf"}), 'in UTF8 again');
	is((ask($utf8, 'SELECT idem_claim($1, $2)', "k $route", "\xe2\x82\xac"))[1], 't', 'a key that LATIN1 does not have');
	is((ask($latin, 'SELECT seq FROM idem.claim WHERE source = $1 AND seq = chr(8364)', "k $route"))[0], '22P05', 'is no key there');
	is((ask($utf8, 'SELECT idem_respond($1, $2, $3)', "k $route", "\xe2\x82\xac", qq("\xe2\x82\xac")))[1], 't', 'answered with what LATIN1 does not have');

	# limits are in bytes of the database
	is(join(' ', ask($latin, 'SELECT idem_claim($1, $2)', $o x 127, 'x')), 'ok t', '127 times 2 bytes fit');
	is((ask($latin, 'SELECT idem_claim($1, $2)', $o x 128, 'x'))[0], '22023', '128 do not');
	ask($utf8, 'SELECT idem_forget($1, $2)', $utf x 127, 'x');
	# messages with values that are cut are cut between characters
	is((ask($utf8, 'SELECT idem_deduct($1, $2, 1, $3::text)', 'product', 'stock', "\xf0\x9f\x98\x80" x 300))[0], 'ID404', 'a message that shows the start of a long key');
	is((ask($utf8, 'SELECT idem_machine($1, $2)', 'm', "$utf -> \xf0\x9f\x98\x80 -> h${utf}her"))[1], '2', 'states are any text');
	is((ask($utf8, 'SELECT idem_verdict($1, $2, $3)', 'm', $utf, "h${utf}her"))[1], 'ahead', 'and known by it');
	like((ask($utf8, 'SELECT idem_machine_graph($1)', 'm'))[1], qr/h${utf}her/, 'and shown');
}

# LATIN1: every byte is a character
for my $route (qw(off on))
{
	my $latin = connection('latin');
	ask($latin, "SET idem.force_sql = $route");
	ask($latin, "SET client_encoding = 'LATIN1'");
	my $all = join '', map { chr } 1 .. 255;
	is(join(' ', ask($latin, 'SELECT idem_claim($1, $2), idem_claim($1, $2)', $all, "$all $route")), 'ok t f', "LATIN1, force_sql $route: a key of all bytes");
	is((ask($latin, 'SELECT seq FROM idem.claim WHERE source = $1 AND seq = $2', $all, "$all $route"))[1], "$all $route", 'as it was given');
	is((ask($latin, 'SELECT (idem_lookup($1, $2)).status', $all, "$all $route"))[1], 'done', 'found again');
	is((ask($latin, 'SELECT idem_claim($1, $2)', 'x' x 255 . $o, 'x'))[0], '22023', 'limits are bytes');
	my $token = (ask($latin, 'SELECT idem_token_issue($1, $2)', $all, $all))[1];
	is(join(' ', map { (ask($latin, 'SELECT idem_token_consume($1, $2, $3)', $token, $all, $all))[1] } 1, 2), 't f', 'tokens for such names');
	is((ask($latin, 'SELECT idem_machine($1, $2)', "m$o", "$o -> \xe4 -> \xff"))[1], '2', 'states');
	is((ask($latin, 'SELECT idem_verdict($1, $2, $3)', "m$o", "\xff", $o))[1], 'late', 'verdict');
	is(join(' ', ask($latin, 'SELECT idem_lock($1), idem_stock_add($1, 5), idem_stock_reserve($1, $2, $1, 2)', substr($all, 5) . $route, 'x')), 'ok 1 5 t', 'locks and stock');
}

# SQL_ASCII: every byte but NUL, and no sense in them
for my $route (qw(off on))
{
	my $bytes = connection('bytes');
	ask($bytes, "SET idem.force_sql = $route");
	my @odd = map { $invalid{$_} } grep { !/NUL/ } sort keys %invalid;
	my @bad;
	for my $odd (@odd, "\xc0\x80")
	{
		my @got = ask($bytes, 'SELECT idem_claim($1, $2), idem_claim($1, $2), idem_respond($1, $2, $3)', "s$route", $odd, qq("$odd"));
		push @bad, unpack('H*', $odd) . " claim @got" unless "@got" eq 'ok t f t';
		@got = ask($bytes, 'SELECT idem_response($1, $2)', "s$route", $odd);
		push @bad, unpack('H*', $odd) . ' answer' unless $got[1] eq qq("$odd");
		@got = ask($bytes, 'SELECT idem_claim($1, $2, $3)', "s$route", "request $odd", qq({"$odd": "$odd"}));
		push @bad, unpack('H*', $odd) . " request @got" unless $got[0] eq 'ok';
		@got = ask($bytes, 'SELECT idem_claim($1, $2, $3)', "s$route", "request $odd", qq({"$odd": "x"}));
		push @bad, unpack('H*', $odd) . " other request @got" unless $got[0] eq 'ID422';
		@got = ask($bytes, 'SELECT idem_claim($1, $2)', $odd x 300, 'x');
		push @bad, unpack('H*', $odd) . " long @got" unless $got[0] eq '22023';
		@got = ask($bytes, 'SELECT idem_deduct($1, $2, 1, $3::text)', 'product', 'stock', $odd x 300);
		push @bad, unpack('H*', $odd) . " no row @got" unless $got[0] eq 'ID404';
		@got = ask($bytes, 'SELECT idem_machine($1, $2)', "m$odd", "$odd -> b");
		push @bad, unpack('H*', $odd) . " machine @got" unless $got[0] eq 'ok';
		@got = ask($bytes, 'SELECT idem_machine_graph($1)', "m$odd");
		push @bad, unpack('H*', $odd) . " graph @got" unless $got[0] eq 'ok';
		@got = ask($bytes, 'SELECT idem_verdict($1, $2, $3)', "m$odd", $odd, 'nosuch');
		push @bad, unpack('H*', $odd) . " verdict @got" unless $got[0] eq '22023';
	}
	is(join("\n", @bad), '', "SQL_ASCII, force_sql $route: any bytes");
	is((ask($bytes, 'SELECT idem_claim($1, $2)', "a\0b", 'x'))[0], '22021', 'but NUL');
}

my $log = $node->logfile;
$node->stop;
my @wrong = grep { /PANIC|TRAP|terminated by signal|leak/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($log);
is(join("\n", @wrong), '', 'no crash, no leak');

done_testing();
