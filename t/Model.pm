# A plain model of what idem promises to one session: hashes, and for each call what it must answer. No SQL is run
# here. What a call is told to do is chosen at random, from so few keys that calls meet each other all the time.
package Model;

use strict;
use warnings;

use Storable 'dclone';

my @keys = ('a' .. 'e');
my @states = qw(created paid shipped done cancelled refunded);
my %machines = (
	A => 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded',
	B => 'created -> shipped -> paid -> done; created -> cancelled -> created'
);
my %moves;
my %reaches;

foreach my $name (keys %machines)
{
	foreach my $chain (split /; /, $machines{$name})
	{
		my @way = split / -> /, $chain;
		$moves{$name}{ $way[ $_ - 1 ] }{ $way[$_] } = 1 foreach 1 .. $#way;
	}
	my %to = map { $_ => { %{ $moves{$name}{$_} // {} } } } @states;
	foreach my $via (@states)
	{
		foreach my $from (@states)
		{
			next unless $to{$from}{$via};
			$to{$from}{$_} = 1 foreach keys %{ $to{$via} };
		}
	}
	$reaches{$name} = \%to;
}

# The calls, each as often as its number says.
my %weights = (
	claim => 6, claim_batch => 3, respond => 3, response => 2, lookup => 2, idem_call => 4, cancel => 1, forget => 3,
	begin => 6, renew => 1, complete => 2, fail => 3, lapse_attempt => 1,
	lock => 4, lock_renew => 1, lock_check => 2, unlock => 3, lapse_lock => 1,
	token_issue => 2, token_limited => 3, token_consume => 4, token_rotate => 2, token_status => 4, token_rekey => 2,
	deduct => 3, refill => 1, lock_row => 1, insert => 3, uninsert => 1, update_version => 3,
	advance => 5, update_state => 4, new_order => 2, machine => 3, verdict => 3,
	stock_add => 1, stock_reserve => 4, stock_reserve_many => 3, stock_confirm => 1, stock_release => 2, stock_available => 1
);
my @lottery = map { ($_) x $weights{$_} } sort keys %weights;

sub pick { return $_[ rand @_ ] }

# Objects that the calls need; made once.
sub setup
{
	return <<"SQL";
CREATE TABLE goods (id integer PRIMARY KEY, qty integer);
CREATE TABLE doc (id integer PRIMARY KEY, body integer, version integer);
CREATE TRIGGER v BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
CREATE TABLE purchase (id integer PRIMARY KEY, status text);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON purchase FOR EACH ROW EXECUTE FUNCTION idem_state('m', 'status');
CREATE TABLE named (id bigserial PRIMARY KEY, name text UNIQUE, who text);
CREATE FUNCTION echo(request json) RETURNS json LANGUAGE sql AS 'SELECT request';
CREATE FUNCTION nothing(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION fails(request json) RETURNS json LANGUAGE plpgsql AS \$\$ BEGIN
	PERFORM idem_claim('m', request->>'key');
	RAISE 'no';
END \$\$;
CREATE FUNCTION nests(request json) RETURNS json LANGUAGE sql AS \$\$ SELECT to_json(idem_claim('m', request->>'key')) \$\$;
-- rows that a statement writes
CREATE FUNCTION dml(what text) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	n bigint;
BEGIN
	EXECUTE what;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END \$\$;
-- the answer, or the SQLSTATE of what was undone
CREATE FUNCTION caught(what text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	answer text;
BEGIN
	EXECUTE 'SELECT ' || what INTO answer;
	RETURN coalesce(answer, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END \$\$;
-- the same, and it is undone in any case
CREATE FUNCTION undone(what text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	answer text;
BEGIN
	BEGIN
		EXECUTE 'SELECT ' || what INTO answer;
		RAISE SQLSTATE 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
		RETURN coalesce(answer, 'null');
	END;
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END \$\$;
-- claims guarded by a lock that is no part of the transaction: a rollback does not give it back
CREATE FUNCTION wrong_claim(source text, seq text, request jsonb, wait boolean) RETURNS boolean LANGUAGE plpgsql AS \$\$
BEGIN
	IF (idem_lookup(source, seq)).status IS NOT NULL THEN
		RETURN idem_claim(source, seq, request, wait);
	END IF;
	IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objid = ascii(seq)) THEN
		RETURN false;
	END IF;
	PERFORM pg_advisory_lock(1, ascii(seq));
	RETURN idem_claim(source, seq, request, wait);
END \$\$;
CREATE FUNCTION wrong_forget(source text, seq text) RETURNS boolean LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM pg_advisory_unlock(1, ascii(seq));
	RETURN idem_forget(source, seq);
END \$\$;
-- all that there is; a reservation that outlived its call would be in the last line
CREATE FUNCTION books() RETURNS text LANGUAGE sql AS \$\$
SELECT concat_ws(E'\\n',
	(SELECT 'claim ' || string_agg(concat_ws(':', seq, CASE WHEN status = 'r' AND lease_until < clock_timestamp() THEN 'x' ELSE status END,
		fence, request IS NOT NULL, coalesce(response::text, '-')), ' ' ORDER BY seq) FROM idem.claim),
	(SELECT 'lock ' || string_agg(concat_ws(':', name, fence, coalesce((lease_until > clock_timestamp())::text, 'free')), ' ' ORDER BY name) FROM idem.lock),
	(SELECT 'spent ' || count(*) FROM idem.token_spent),
	(SELECT 'rate ' || string_agg(purpose || ':' || issued, ' ' ORDER BY purpose) FROM idem.token_rate),
	(SELECT 'keys ' || count(*) || ' ' || count(*) FILTER (WHERE verify_until IS NULL) FROM idem.token_key),
	(SELECT 'goods ' || string_agg(id || ':' || qty, ' ' ORDER BY id) FROM goods),
	(SELECT 'doc ' || string_agg(concat_ws(':', id, body, version), ' ' ORDER BY id) FROM doc),
	(SELECT 'named ' || string_agg(name || ':' || who, ' ' ORDER BY name) FROM named),
	(SELECT 'purchase ' || string_agg(id || ':' || status, ' ' ORDER BY id) FROM purchase),
	(SELECT 'machine ' || string_agg(from_state || '>' || to_state, ' ' ORDER BY from_state, to_state) FROM idem.transition WHERE machine = 'm'),
	(SELECT 'stock ' || string_agg(item || ':' || n, ' ' ORDER BY item)
		FROM (SELECT item, sum(quantity) AS n FROM idem.stock GROUP BY item HAVING min(quantity) >= 0) s),
	(SELECT 'hold ' || string_agg(concat_ws(':', seq, status, (SELECT string_agg(item || '=' || n, ',' ORDER BY item)
		FROM (SELECT item, sum(quantity) AS n FROM unnest(items, quantities) AS t (item, quantity) GROUP BY item) s)), ' ' ORDER BY seq) FROM idem.hold),
	(SELECT 'reserved ' || count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = x'1DE'::integer))
\$\$;
SQL
}

# Begins afresh; secrets stay, as many as there are.
sub reset_sql
{
	return "SELECT pg_advisory_unlock_all();\nTRUNCATE idem.claim, idem.lock, idem.token_spent, idem.token_rate, idem.stock, idem.hold, goods, doc, purchase, named;\n"
	  . "DELETE FROM idem.token_key WHERE verify_until IS NOT NULL;\n"
	  . "INSERT INTO goods VALUES (1, 5), (2, 5), (3, 5); INSERT INTO doc VALUES (1, 0, 1), (2, 0, 1);\n"
	  . "SELECT idem_machine('m', '$machines{A}');\nSELECT idem_stock_add('one', 10), idem_stock_add('four', 10, 4);";
}

sub books_sql { return 'SELECT books()' }

# new(CLASS): the model of what reset_sql leaves. What is in {now} is undone by a rollback, the rest is not.
sub new
{
	my ($class) = @_;
	my $now = {
		claim => {}, lock => {}, spent => {}, rate => {}, keys => { 0 => 1 }, signer => 0,
		goods => { 1 => 5, 2 => 5, 3 => 5 }, doc => { 1 => [ 0, 1 ], 2 => [ 0, 1 ] }, named => {}, purchase => {}, machine => 'A',
		stock => { one => 10, four => 10 }, hold => {}
	};
	return bless { now => $now, tokens => [], nkeys => 1, calls => 0, transaction => 0, open => 0 }, $class;
}

# a transaction begins, or ends; a call outside of one is one
sub transaction { my ($self, $open) = @_; $self->{open} = $open; $self->{transaction}++; return }

sub copy { my ($self) = @_; return dclone($self->{now}) }
sub restore { my ($self, $copy) = @_; $self->{now} = dclone($copy); return }

# call(): a call, as SQL that answers one value, and the answer or SQLSTATE that it must give; after an error
# the model is as it was. A name in the third place is a psql variable that the value is for.
sub call
{
	my ($self) = @_;
	my $copy = $self->copy;
	my $name = pick(@lottery);
	$self->{transaction}++ unless $self->{open};
	my ($sql, $answer, $variable) = $self->can($name)->($self);

	$self->{calls}++;
	$self->{now} = $copy if is_error($answer);
	return ($sql, $answer, $variable);
}

sub is_error { return $_[0] =~ /^[0-9A-Z]{5}$/ }

# What books() must say.
sub books
{
	my ($self) = @_;
	my $now = $self->{now};
	my %letter = (done => 'd', running => 'r', expired => 'x', open => 'o', failed => 'f', cancelled => 'c');
	my @lines;
	my $line = sub {
		my ($what, @rest) = @_;
		push @lines, "$what @rest" if @rest;
	};

	$line->('claim', map {
			my $row = $now->{claim}{$_};
			join ':', $_, $letter{ $row->{status} }, $row->{fence}, defined $row->{request} ? 't' : 'f', $row->{response} // '-'
	} sort keys %{ $now->{claim} });
	$line->('lock', map { "$_:$now->{lock}{$_}{fence}:$now->{lock}{$_}{live}" } sort keys %{ $now->{lock} });
	$line->('spent', scalar keys %{ $now->{spent} });
	$line->('rate', map { "$_:$now->{rate}{$_}" } sort keys %{ $now->{rate} });
	$line->('keys', scalar(keys %{ $now->{keys} }), 1);
	$line->('goods', map { "$_:$now->{goods}{$_}" } sort keys %{ $now->{goods} });
	$line->('doc', map { join ':', $_, @{ $now->{doc}{$_} } } sort keys %{ $now->{doc} });
	$line->('named', map { "$_:$now->{named}{$_}" } sort keys %{ $now->{named} });
	$line->('purchase', map { "$_:$now->{purchase}{$_}" } sort keys %{ $now->{purchase} });
	my $moves = $moves{ $now->{machine} };
	$line->('machine', map { my $from = $_; map { "$from>$_" } sort keys %{ $moves->{$from} } } sort keys %$moves);
	$line->('stock', map { "$_:$now->{stock}{$_}" } sort keys %{ $now->{stock} });
	$line->('hold', map {
			my $hold = $now->{hold}{$_};
			join ':', $_, $hold->{status},
			  %{ $hold->{has} } ? join(',', map { "$_=$hold->{has}{$_}" } sort keys %{ $hold->{has} }) : ()
	} sort keys %{ $now->{hold} });
	$line->('reserved', 0);
	return join "\n", @lines;
}

#
# Claims and attempts
#
sub request { return pick(undef, undef, undef, '{"n": 1}', '{"n": 2}') }
sub answer { return pick('"x"', '[1,  2]', '{"b":1,"a":2}') }
sub json { return defined $_[0] ? "'$_[0]'" : 'NULL' }
sub bool { return $_[0] ? 'true' : 'false' }

# What becomes of a key that is claimed.
sub take
{
	my ($self, $key, $request, $status) = @_;
	my $row = $self->{now}{claim}{$key};

	return 'ID422' if $row && $row->{status} ne 'open' && defined $request && defined $row->{request} && $request ne $row->{request};
	return 'ID409' if $row && $row->{status} =~ /running|expired/;
	return 'false' if $row && $row->{status} ne 'open';
	$self->{now}{claim}{$key} = { status => $status, fence => 0, request => $request, own => $self->{transaction} };
	return 'true';
}

sub claim
{
	my ($self) = @_;
	my ($key, $request) = (pick(@keys), request());
	return ("idem_claim('m', '$key', " . json($request) . ', ' . bool(rand() < 0.7) . ')', $self->take($key, $request, 'done'));
}

sub claim_batch
{
	my ($self) = @_;
	my @batch = map { pick(@keys) } 1 .. 1 + rand 5;
	my %claimed;
	my %seen;

	foreach my $key (sort @batch)
	{
		# what is in progress does not stop the others
		$claimed{$key} //= $self->take($key, undef, 'done') =~ s/ID409/false/r;
	}
	my $answer = join ' ', map { "$_:" . ($seen{$_}++ ? 'false' : $claimed{$_}) } @batch;
	my $list = join ', ', map { "'$_'" } @batch;
	return ("(SELECT string_agg(seq || ':' || claimed, ' ') FROM idem_claim_batch('m', ARRAY[$list]))", $answer);
}

sub respond
{
	my ($self) = @_;
	my ($key, $response) = (pick(@keys), answer());
	my $row = $self->{now}{claim}{$key};
	my $status = $row ? $row->{status} : 'open';
	my $result =
		$status eq 'open' ? 'ID404'
	  : $status =~ /running|expired/ ? 'ID409'
	  : $status eq 'done' && defined $row->{response} && $row->{response} eq $response ? 'false'
	  : $status ne 'done' || defined $row->{response} || $row->{fence} ? 'ID412'
	  :                                                                'true';

	$row->{response} = $response if $result eq 'true';
	return ("idem_respond('m', '$key', '$response')", $result);
}

sub response
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key};
	return ("idem_response('m', '$key')", $row && $row->{status} =~ /done|failed/ ? $row->{response} // 'null' : 'null');
}

sub lookup
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key};
	return ("(SELECT concat_ws(' ', status, fence, response) FROM idem_lookup('m', '$key'))",
		$row ? join(' ', grep { defined } @$row{qw(status fence response)}) : '');
}

sub call_function
{
	my ($self, $function, $other) = @_;
	return "{\"key\": \"$other\"}" if $function eq 'echo';
	return 'null' if $function eq 'nothing';
	my $claimed = $self->take($other, undef, 'done');
	return is_error($claimed) ? $claimed : $function eq 'fails' ? 'P0001' : $claimed;
}

# idem_call; the name is taken
sub idem_call
{
	my ($self) = @_;
	my ($key, $function, $other) = (pick(@keys), pick(qw(echo echo nothing fails nests)), pick(@keys));
	my $request = "{\"key\": \"$other\"}";
	my $taken = $self->take($key, $request, 'calling');
	my $row = $self->{now}{claim}{$key};
	my $answer = $taken;

	if ($taken eq 'true')
	{
		my $response = $self->call_function($function, $other);
		$answer = $response // 'null';
		@$row{qw(status response)} = ('done', $response);
	}
	elsif ($taken eq 'false')
	{
		# claimed by this very transaction, which has not answered it
		my $mistake = $row->{status} eq 'done' && !$row->{fence} && !defined $row->{response} && $row->{own} == $self->{transaction};
		$answer = $row->{status} eq 'cancelled' ? 'ID412' : $mistake ? 'ID409' : $row->{response} // 'null';
	}
	return ("idem_call('m', '$key', '$function', '$request')", $answer);
}

sub cancel
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key} //= { status => 'open', fence => 0 };

	$row->{status} = 'cancelled' if $row->{status} =~ /open|expired/;
	return ("idem_cancel('m', '$key')", $row->{status} eq 'running' ? 'ID409' : $row->{status});
}

sub forget
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key};
	my $answer = !$row ? 'false' : $row->{status} eq 'running' ? 'ID409' : 'true';

	delete $self->{now}{claim}{$key} if $answer eq 'true';
	return ("idem_forget('m', '$key')", $answer);
}

sub begin
{
	my ($self) = @_;
	my ($key, $request, $takeover) = (pick(@keys), request(), rand() < 0.7);
	my $row = $self->{now}{claim}{$key};
	my $answer;

	if ($row && $row->{status} ne 'open' && defined $request && defined $row->{request} && $request ne $row->{request})
	{
		$answer = 'ID422';
	}
	elsif ($row && $row->{status} ne 'open' && !($row->{status} eq 'expired' && $takeover))
	{
		$answer = join ' ', grep { defined } @$row{qw(status fence response)};
	}
	else
	{
		my $fence = $row ? $row->{fence} + 1 : 1;
		$request = $row->{request} // $request if $row && $row->{status} eq 'expired';
		$self->{now}{claim}{$key} = { status => 'running', fence => $fence, request => $request };
		$answer = "granted $fence";
	}
	return ("(SELECT concat_ws(' ', status, fence, response) FROM idem_begin('m', '$key', '1 hour', "
		  . json($request) . ', ' . bool($takeover) . '))', $answer);
}

# A key, its row, a fence that is most often its own, and is the row held by it?
sub attempt
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key};
	my $fence = ($row ? $row->{fence} : 0) + pick(0, 0, 0, 0, -1, 1);
	return ($key, $row, $fence, $row && $row->{status} =~ /running|expired/ && $row->{fence} == $fence);
}

sub renew
{
	my ($self) = @_;
	my ($key, $row, $fence, $held) = $self->attempt;

	$row->{status} = 'running' if $held;
	return ("idem_renew('m', '$key', $fence, '1 hour') > clock_timestamp()", !$row ? 'ID404' : $held ? 'true' : 'ID412');
}

sub finish
{
	my ($self, $outcome, $response) = @_;
	my ($key, $row, $fence, $held) = $self->attempt;
	my $again = $row && !$held && $fence > 0 && $fence == $row->{fence} && $row->{status} eq $outcome
	  && ($response // '-') eq ($row->{response} // '-');

	@$row{qw(status response)} = ($outcome, $response) if $held;
	return ($key, $fence, !$row ? 'ID404' : $held ? 'true' : $again ? 'false' : 'ID412');
}

sub complete
{
	my ($self) = @_;
	my $response = pick(undef, answer());
	my ($key, $fence, $result) = $self->finish('done', $response);
	return ("idem_complete('m', '$key', $fence, " . json($response) . ')', $result);
}

sub fail
{
	my ($self) = @_;
	my ($response, $retry) = (pick(undef, answer()), rand() < 0.7);
	my ($key, $fence, $result) = $self->finish($retry ? 'open' : 'failed', $response);
	return ("idem_fail('m', '$key', $fence, " . json($response) . ', ' . bool($retry) . ')', $result);
}

# time passes
sub lapse_attempt
{
	my ($self) = @_;
	my $key = pick(@keys);
	my $row = $self->{now}{claim}{$key};
	my $lapses = $row && $row->{status} =~ /running|expired/;

	$row->{status} = 'expired' if $lapses;
	return ("dml(\$q\$UPDATE idem.claim SET lease_until = '2000-01-01' WHERE seq = '$key' AND status = 'r'\$q\$)", $lapses ? 1 : 0);
}

#
# Locks
#
sub lock
{
	my ($self) = @_;
	my $name = pick('p', 'q');
	my $lock = $self->{now}{lock}{$name} //= { fence => 0, live => 'free' };

	return ("idem_lock('$name', '1 hour')", 'null') if $lock->{live} eq 'true';
	$lock->{live} = 'true';
	return ("idem_lock('$name', '1 hour')", ++$lock->{fence});
}

sub held
{
	my ($self) = @_;
	my $name = pick('p', 'q');
	my $lock = $self->{now}{lock}{$name};
	my $fence = ($lock ? $lock->{fence} : 1) + pick(0, 0, 0, 0, -1, 1);
	return ($name, $lock, $fence, $lock && $lock->{fence} == $fence && $lock->{live} eq 'true');
}

sub lock_renew
{
	my ($self) = @_;
	my ($name, $lock, $fence, $held) = $self->held;
	return ("idem_lock_renew('$name', $fence, '1 hour')", bool($held));
}

sub lock_check
{
	my ($self) = @_;
	my ($name, $lock, $fence, $held) = $self->held;
	return ("(SELECT '' FROM idem_lock_check('$name', $fence))", $held ? '' : 'ID412');
}

sub unlock
{
	my ($self) = @_;
	my ($name, $lock, $fence, $held) = $self->held;
	$lock->{live} = 'free' if $held;
	return ("idem_unlock('$name', $fence)", bool($held));
}

sub lapse_lock
{
	my ($self) = @_;
	my $name = pick('p', 'q');
	my $lock = $self->{now}{lock}{$name};
	my $lapses = $lock && $lock->{live} ne 'free';

	$lock->{live} = 'false' if $lapses;
	return ("dml(\$q\$UPDATE idem.lock SET lease_until = '2000-01-01' WHERE name = '$name' AND lease_until IS NOT NULL\$q\$)", $lapses ? 1 : 0);
}

#
# Tokens. One that was issued stays good if its issuer rolls back, unless the secret that signed it does.
#
sub new_token
{
	my ($self, $purpose) = @_;
	push @{ $self->{tokens} }, { purpose => $purpose, key => $self->{now}{signer} };
	return 'token' . $#{ $self->{tokens} };
}

sub token_issue
{
	my ($self) = @_;
	my $purpose = pick('login', 'form');
	return ("idem_token_issue('$purpose')", 'set TRUE', $self->new_token($purpose));
}

sub token_limited
{
	my ($self) = @_;
	my $purpose = pick('login', 'form');
	my $sql = "idem_token_issue('$purpose', max_issues => 3, per => '1 hour')";

	return ($sql, 'ID429', 'none') if ($self->{now}{rate}{$purpose} // 0) >= 3;
	$self->{now}{rate}{$purpose}++;
	return ($sql, 'set TRUE', $self->new_token($purpose));
}

sub token_rekey
{
	my ($self) = @_;
	my $now = $self->{now};
	$now->{signer} = $self->{nkeys}++;
	$now->{keys}{ $now->{signer} } = 1;
	# with a token that the new secret signs at once
	return (q{(SELECT idem_token_issue('form') FROM idem_token_rekey())}, 'set TRUE', $self->new_token('form'));
}

# One of the last tokens, its number, what it is asked for, and its status.
sub token
{
	my ($self) = @_;
	my $now = $self->{now};
	my $n = $#{ $self->{tokens} } - int(rand 6);
	return ("'forged'", -1, 'form', 'invalid') if $n < 0;
	my $token = $self->{tokens}[$n];
	my $purpose = pick($token->{purpose}, $token->{purpose}, $token->{purpose}, 'other');
	my $status =
		$purpose ne $token->{purpose} || !$now->{keys}{ $token->{key} } ? 'invalid'
	  : $now->{spent}{$n}                                               ? 'used'
	  :                                                                   'live';
	return (":'token$n'", $n, $purpose, $status);
}

sub token_consume
{
	my ($self) = @_;
	my ($token, $n, $purpose, $status) = $self->token;
	$self->{now}{spent}{$n} = 1 if $status eq 'live';
	return ("idem_token_consume($token, '$purpose')", bool($status eq 'live'));
}

sub token_rotate
{
	my ($self) = @_;
	my ($token, $n, $purpose, $status) = $self->token;
	my $sql = "idem_token_rotate($token, '$purpose')";

	return ($sql, 'set FALSE', 'none') if $status ne 'live';
	$self->{now}{spent}{$n} = 1;
	return ($sql, 'set TRUE', $self->new_token($purpose));
}

sub token_status
{
	my ($self) = @_;
	my ($token, $n, $purpose, $status) = $self->token;
	return ("idem_token_status($token, '$purpose')", $status);
}

#
# Rows of the caller's
#
sub deduct
{
	my ($self) = @_;
	my ($id, $n) = (pick(1 .. 4), pick(1 .. 4));
	my $goods = $self->{now}{goods};
	my $sql = "idem_deduct('goods', 'qty', $n, $id)";

	return ($sql, 'ID404') unless exists $goods->{$id};
	return ($sql, 'false') if $goods->{$id} < $n;
	$goods->{$id} -= $n;
	return ($sql, 'true');
}

sub refill
{
	my ($self) = @_;
	my $id = pick(1 .. 3);
	my $goods = $self->{now}{goods};

	if (exists $goods->{$id} && rand() < 0.3)
	{
		delete $goods->{$id};
		return ("dml('DELETE FROM goods WHERE id = $id')", 1);
	}
	$goods->{$id} += 3;
	return ("dml('INSERT INTO goods AS g VALUES ($id, 3) ON CONFLICT (id) DO UPDATE SET qty = g.qty + 3')", 1);
}

sub lock_row
{
	my ($self) = @_;
	my $id = pick(1 .. 4);
	return ("idem_lock_row('goods_pkey', $id)", bool(exists $self->{now}{goods}{$id}));
}

sub insert
{
	my ($self) = @_;
	my ($name, $who) = (pick('n1' .. 'n4'), $self->{calls});
	my $inserted = !exists $self->{now}{named}{$name};

	$self->{now}{named}{$name} //= $who;
	return ("(SELECT concat_ws(' ', inserted, (stored).who) FROM idem_insert(ROW(NULL, '$name', '$who')::named))",
		($inserted ? 't' : 'f') . " $self->{now}{named}{$name}");
}

sub uninsert
{
	my ($self) = @_;
	my $name = pick('n1' .. 'n4');
	return ("dml(\$q\$DELETE FROM named WHERE name = '$name'\$q\$)", defined delete $self->{now}{named}{$name} ? 1 : 0);
}

sub update_version
{
	my ($self) = @_;
	my $id = pick(1, 2);
	my $doc = $self->{now}{doc}{$id};
	my $version = pick('', $doc->[1] + pick(-1, 0, 1, 2));
	my $sql = "dml('UPDATE doc SET body = body + 1" . ($version eq '' ? '' : ", version = $version") . " WHERE id = $id')";

	return ($sql, 'ID412') if $version ne '' && $version != $doc->[1] && $version != $doc->[1] + 1;
	$doc->[0]++;
	$doc->[1]++;
	return ($sql, 1);
}

#
# State machines
#
sub verdict_of
{
	my ($self, $from, $to) = @_;
	my $name = $self->{now}{machine};
	my ($moves, $reaches) = ($moves{$name}, $reaches{$name});

	return '22023' if index($machines{$name}, $to) < 0 || index($machines{$name}, $from) < 0;
	return
		$from eq $to ? 'same'
	  : $moves->{$from}{$to} ? 'apply'
	  : $reaches->{$from}{$to} ? 'ahead'
	  : $reaches->{$to}{$from} ? 'late'
	  :                          'illegal';
}

sub verdict
{
	my ($self) = @_;
	my ($from, $to) = (pick(@states), pick(@states));
	return ("idem_verdict('m', '$from', '$to')", $self->verdict_of($from, $to));
}

sub machine
{
	my ($self) = @_;
	my $name = pick('A', 'B');
	$self->{now}{machine} = $name;
	return ("idem_machine('m', '$machines{$name}')", 5);
}

sub new_order
{
	my ($self) = @_;
	my ($id, $status) = (pick(1 .. 3), pick('created', 'created', @states));
	my $orders = $self->{now}{purchase};

	return ("dml('DELETE FROM purchase WHERE id = $id')", 1) if defined delete $orders->{$id};
	$orders->{$id} = $status;
	return ("dml(\$q\$INSERT INTO purchase VALUES ($id, '$status')\$q\$)", index($machines{ $self->{now}{machine} }, $status) < 0 ? '22023' : 1);
}

# A move of a row, and what becomes of it.
sub move
{
	my ($self, %answers) = @_;
	my ($id, $to) = (pick(1 .. 3), pick(@states));
	my $orders = $self->{now}{purchase};

	return ($id, $to, $answers{none}) unless exists $orders->{$id};
	my $verdict = $self->verdict_of($orders->{$id}, $to);
	$verdict = 'same' if $orders->{$id} eq $to && $answers{unchanged};
	$orders->{$id} = $to if $verdict eq 'apply';
	return ($id, $to, $answers{$verdict} // 'ID460') if $verdict ne '22023';
	return ($id, $to, '22023');
}

sub advance
{
	my ($self) = @_;
	my ($id, $to, $answer) = $self->move(none => 'ID404', apply => 'true', same => 'false', late => 'false');
	# the state that is asked for is judged before the row is looked for
	$answer = '22023' if index($machines{ $self->{now}{machine} }, $to) < 0;
	return ("idem_advance('m', 'purchase', 'status', '$to', $id)", $answer);
}

sub update_state
{
	my ($self) = @_;
	my ($id, $to, $answer) = $self->move(none => 0, apply => 1, same => 1, late => 0, unchanged => 1);
	return ("dml(\$q\$UPDATE purchase SET status = '$to' WHERE id = $id\$q\$)", $answer);
}

#
# Stock
#
sub stock_add
{
	my ($self) = @_;
	my $item = pick('one', 'four');
	return ("idem_stock_add('$item', 3)", $self->{now}{stock}{$item} += 3);
}

sub stock_available
{
	my ($self) = @_;
	my $item = pick('one', 'four', 'none');
	return ("idem_stock_available('$item')", $self->{now}{stock}{$item} // 0);
}

# What becomes of an order that wants these quantities.
sub reserve
{
	my ($self, $seq, %wants) = @_;
	my $stock = $self->{now}{stock};
	my $hold = $self->{now}{hold}{$seq};
	my @more = grep { !$hold || !exists $hold->{has}{$_} } keys %wants;

	return 'ID422' if grep { $hold && exists $hold->{has}{$_} && $hold->{has}{$_} != $wants{$_} } keys %wants;
	return 'false' if $hold && $hold->{status} =~ /[rx]/;
	return 'ID412' if @more && $hold && $hold->{status} eq 'c';
	return 'false' if grep { ($stock->{$_} // 0) < $wants{$_} } @more;
	$hold = $self->{now}{hold}{$seq} //= { status => 'h', has => {} };
	foreach my $item (@more)
	{
		$stock->{$item} -= $hold->{has}{$item} = $wants{$item};
	}
	return 'true';
}

sub stock_reserve
{
	my ($self) = @_;
	my ($seq, $item, $n) = (pick(1 .. 4), pick('one', 'four', 'four', 'none'), pick(1 .. 4));
	return ("idem_stock_reserve('m', '$seq', '$item', $n)", $self->reserve($seq, $item => $n));
}

sub stock_reserve_many
{
	my ($self) = @_;
	my ($seq, @n) = (pick(1 .. 4), pick(1 .. 4), pick(1 .. 4));
	my @items = pick([ 'one', 'four' ], [ 'four', 'one' ]);
	my %wants = ($items[0][0] => $n[0], $items[0][1] => $n[1]);
	return ("idem_stock_reserve_items('m', '$seq', ARRAY['$items[0][0]', '$items[0][1]'], ARRAY[$n[0], $n[1]])", $self->reserve($seq, %wants));
}

sub stock_confirm
{
	my ($self) = @_;
	my $seq = pick(1 .. 4);
	my $hold = $self->{now}{hold}{$seq};
	my $answer = !$hold ? 'ID404' : $hold->{status} eq 'h' ? 'true' : $hold->{status} eq 'c' ? 'false' : 'ID412';

	$hold->{status} = 'c' if $answer eq 'true';
	return ("idem_stock_confirm('m', '$seq')", $answer);
}

sub stock_release
{
	my ($self) = @_;
	my $seq = pick(1 .. 4);
	my $hold = $self->{now}{hold}{$seq} //= { status => 'h', has => {} };
	my $answer = $hold->{status} eq 'c' ? 'ID412' : $hold->{status} eq 'h' ? 'true' : 'false';

	if ($answer eq 'true')
	{
		$hold->{status} = 'r';
		$self->{now}{stock}{$_} += $hold->{has}{$_} foreach keys %{ $hold->{has} };
	}
	return ("idem_stock_release('m', '$seq')", $answer);
}

1;
