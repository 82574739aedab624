# Pins what bad input gets: every argument of every function, taken from the catalog, with null, empty, over-long and odd
# values, by both routes: null and empty get what the contract says, nothing gets an error that the function's comment does
# not list, an internal one least of all, and no session is lost. IDEM_FUZZ=100000: so many calls with random arguments.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $fuzz = $ENV{IDEM_FUZZ} || 1000;
my $node = idem_node('bad_input', 'log_min_messages = warning', 'log_error_verbosity = verbose');

# A valid value of each argument, by its name. An argument that is new must be added here.
my %valid = (
	source => q{'bad'}, seq => q{'1'}, seqs => q{'{1, 2}'}, request => q{'{"a": 1}'}, response => q{'{"b": 2}'},
	wait => 'true', takeover => 'true', retry => 'true', function => q{'echo'}, ttl => q{'1 minute'},
	per => q{'1 minute'}, older_than => q{'900 years'}, retention => q{'1 day'}, key_time => q{'none'}, not_before => q{'2020-01-01'}, batch => '1000', fence => '1', name => q{'lock'},
	purpose => q{'purpose'}, subject => q{'subject'}, token => q{token()}, max_issues => '5', target => q{'product'},
	col => q{'stock'}, amount => '1', key => '1', candidate => q{ROW(1, 1, 'a', 'x')::product}, machine => q{'bad'},
	definition => q{'a -> b -> c'}, from_state => q{'a'}, to_state => q{'b'}, item => q{'item'}, quantity => '1',
	old_owner => q{'postgres'}, new_owner => q{'postgres'}, compare => q{'{"c": 3}'}, max_rows => '10', buckets => '4', was => '1', items => q{'{item, other}'}, quantities => q{'{1, 2}'});
# where the same name means something else
my %valid_of = (
	idem_advance => { col => q{'status'}, machine => q{'bad'} },
	idem_insert => { key => q{NULL} });
# What has to be there for a valid call.
my %before = (
	idem_respond => q{SELECT idem_claim('bad', '1')},
	idem_renew => q{SELECT idem_begin('bad', '1')},
	idem_complete => q{SELECT idem_begin('bad', '1')},
	idem_fail => q{SELECT idem_begin('bad', '1')},
	idem_policy => q{SELECT idem_policy('bad', '1 day')},
	idem_lock_renew => q{SELECT idem_lock('lock')},
	idem_lock_check => q{SELECT idem_lock('lock')},
	idem_unlock => q{SELECT idem_lock('lock')},
	(map { $_ => q{SELECT idem_stock_reserve('bad', '1', 'item', 1)} } qw(idem_stock_confirm idem_stock_amend idem_stock_renew)));

# Arguments that may be null, and those that may be empty.
my %nullable = map { $_ => 1 } qw(idem_call.compare idem_handle.compare idem_unsettled.source idem_unsettled.max_rows idem_claim.request idem_begin.request idem_complete.response idem_fail.response
  idem_token_issue.max_issues idem_insert.key idem_verdict.from_state idem_stock_reserve.ttl idem_stock_reserve_items.ttl idem_stock_amend.was idem_stock_renew.ttl idem_stock_add.buckets
  idem_policy.retention idem_policy.key_time idem_policy.not_before idem_purge.older_than idem_purge.source);
my %may_be_empty = map { $_ => 1 } qw(idem_token_issue.subject idem_token_consume.subject idem_token_rotate.subject
  idem_token_status.subject idem_token_consume.token idem_token_rotate.token idem_token_status.token idem_claim_batch.seqs idem_begin_batch.seqs);
# Limits in bytes. Texts without one: a token of any length is no token, a definition has 16 MB.
my %limit = ((map { $_ => 255 } qw(source name purpose subject item machine from_state to_state)), seq => 1024, key_time => 32);
my %unlimited = map { $_ => 1 } qw(idem_token_consume.token idem_token_rotate.token idem_token_status.token idem_machine.definition);

# Odd values of each type, all of them well-formed.
my $long = q{repeat('x', 1048576)};
my @texts = (q{' '}, q{E'\\x01\\n\\t\\x7f'}, q{repeat('x', 255)}, q{repeat('x', 256)}, q{repeat('x', 1024)}, q{repeat('x', 1025)},
	q{repeat('ü', 127) || 'x'}, q{repeat('ü', 128)}, q{repeat('😀', 256)}, q{repeat('😀', 257)}, $long, q{repeat('😀', 100000)},
	q{''';--'}, q{'%s%n%1$s%d'}, q{'"x"'}, q{E'\\\\'}, q{'->'}, q{'a->b; c'}, q{'; ; ->'}, q{'a ->'}, q{'NULL'}, q{U&'\\FEFF'}, q{U&'\\200B'},
	q{repeat('a->b;', 100000)});
my @jsons = (q{'null'}, q{'[]'}, q{'""'}, q{'0'}, q{'-0'}, q{'1e400'}, q{'{"a": {"a": {"a": []}}}'}, q{(repeat('[', 6000) || repeat(']', 6000))},
	qq{('"' || $long || '"')}, q{'{"": 1, " ": 2}'}, q{('[' || repeat('1,', 20000) || '1]')}, q{'"\\u0001\\ud83d\\ude00"'});
my %odd = (
	text => \@texts,
	json => [ @jsons, q{'{"a": 1, "a": 2}'}, q{'  {  }  '}, q{'"\\u0000"'} ],
	jsonb => \@jsons,
	boolean => [ 'false', 'true' ],
	integer => [ qw(0 -1 1 2147483647 -2147483648 1024 1025) ],
	bigint => [ qw(0 -1 2 9223372036854775807 -9223372036854775808) ],
	numeric => [ qw(0 -1 0.0000000001 1e-16383 -1e-16383 1e131071 -1e131071 9223372036854775808 32768 1.5), q{'NaN'}, q{'Infinity'}, q{'-Infinity'} ],
	interval => [ q{'0'}, q{'-1 second'}, q{'1 microsecond'}, q{'-1 microsecond'}, q{'178000000 years'}, q{'-178000000 years'}, q{'2147483647 months'},
		q{'-2147483648 months'}, q{'2147483647 days'}, q{'-2147483648 days'}, q{'2562047788:00:54.775807'}, q{('-2562047788:00:54.775807'::interval - '1 microsecond')},
		q{'1000 years'}, q{'1000 years 1 month'}, q{'1000 years 365250 days'}, q{'-1000 years 365250 days 1 hour'}, q{'1 month -30 days'}, q{'1 month -31 days'},
		q{'2147483647 months -2147483648 days'}, q{'-2147483648 months 2147483647 days 2562047788:00:54.775807'} ],
	'timestamp with time zone' => [ q{'infinity'}, q{'-infinity'}, q{'4714-11-24 00:00:00+00 BC'}, q{'294276-12-31 23:59:59.999999+00'}, q{'1970-01-01'} ],
	name => [ q{'nosuch'}, q{'ctid'}, q{'tableoid'}, q{'xmin'}, q{'id'}, q{'gen'}, q{'dropped'}, q{'........pg.dropped.5........'}, q{repeat('x', 63)}, q{repeat('ü', 40)},
		q{'"stock"'}, q{'STOCK'}, q{'stock; DROP TABLE product'}, q{'note'} ],
	regclass => [ map({ "'$_'" } qw(nothing view mview sequence ctype partitioned part_1 foreign_table product_pkey product_note ix_expr ix_partial ix_hash unlogged temporary
		  idem.claim idem.claim_pkey pg_class pg_class_oid_index information_schema.tables)), '0', '4294967295', '99999999', q{(SELECT reltoastrelid FROM pg_class WHERE oid = 'product'::regclass)} ],
	regproc => [ '0', '4294967295', '99999999', map { "'$_'" } qw(now idem_purge sum_json row_number json_array_elements json_typeof raises raises_idem undo_all nothing void idem_machine_graph) ],
	'text[]' => [ q{'{}'}, q{'{NULL}'}, q{'{""}'}, q{'{{a,b},{c,d}}'}, q{'[5:6]={a,b}'}, q{'{1,1,1}'}, q{array_fill('x'::text, ARRAY[2000])}, qq{ARRAY['x', $long]}, q{'{item}'}, q{'{item,item}'},
		q{'{item,nosuch}'}, q{(SELECT array_agg(n::text) FROM generate_series(1, 3000) n)} ],
	'numeric[]' => [ q{'{}'}, q{'{NULL}'}, q{'{1,NULL}'}, q{'{{1,2},{3,4}}'}, q{'[5:6]={1,2}'}, q{'{NaN,1}'}, q{'{1,Infinity}'}, q{'{0,1}'}, q{'{1,-1}'}, q{'{1,2,3}'}, q{'{1e131071,1}'},
		q{array_fill(1::numeric, ARRAY[3000])} ],
	anyelement => [ q{NULL::product}, q{ROW(NULL, NULL, NULL, NULL)::product}, q{ROW(2, -1, NULL, repeat('x', 100000))::product}, q{1}, q{ROW(1, 2)}, q{ROW(1)::ctype}, q{ARRAY[ROW(1, 1, 'a', 'x')::product]},
		q{ROW(1, 2)::partitioned}, q{(SELECT v FROM view v LIMIT 1)}, q{(SELECT c FROM pg_class c LIMIT 1)}, q{ROW(1)::dtype}, q{'x'::text}, q{'{1,2}'::int[]}, q{ROW(3, 1, 'a', 'nosuch')::product} ],
	'"any"' => [ q{'abc'}, q{NULL}, q{NULL::int}, q{'1'::text}, '1.5', '1e30', q{'NaN'::float8}, 'ARRAY[1]', 'ROW(1, 2)', '1, 2', q{VARIADIC '{1}'::int[]}, q{VARIADIC '{}'::int[]}, q{VARIADIC NULL::int[]},
		q{VARIADIC '{{1}}'::int[]}, q{VARIADIC '{NULL}'::int[]}, q{VARIADIC ARRAY[1, 2, 3]}, q{'\\x0001'::bytea}, q{'{}'::json}, q{'(1,1)'::point}, 'now()', q{'infinity'::timestamptz}, 'true', '9223372036854775807',
		'-2147483648', q{repeat('9', 1000000)}, q{B'101'}, q{'[1,2)'::int4range}, q{'product'::regclass}, q{'1 day'::interval}, q{'a'::"char"::text}, q{'a'::name}, q{'00000000-0000-0000-0000-000000000000'::uuid},
		q{'1'::ctype_array}, q{1::positive}, q{'apple'::fruit}, q{'-infinity'::date}, '-0.0::float4', q{'10.0.0.1'::inet}, join(', ', (1) x 90) ]);

$node->safe_psql('postgres', q{
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TYPE fruit AS ENUM ('apple', 'pear');
	CREATE TYPE ctype AS (i int);
	CREATE DOMAIN dtype AS ctype;
	CREATE DOMAIN ctype_array AS text;
	CREATE TABLE product (id int PRIMARY KEY, stock int, note text, status text DEFAULT 'a', dropped int, gen int GENERATED ALWAYS AS (1) STORED);
	ALTER TABLE product DROP COLUMN dropped, DROP COLUMN gen;
	CREATE UNIQUE INDEX product_note ON product (note);
	CREATE UNIQUE INDEX ix_expr ON product ((id + 1));
	CREATE UNIQUE INDEX ix_partial ON product (id) WHERE id > 0;
	CREATE INDEX ix_hash ON product USING hash (id);
	INSERT INTO product VALUES (1, 1000000, 'a', 'a');
	CREATE TABLE nothing ();
	CREATE VIEW view AS SELECT * FROM product;
	CREATE MATERIALIZED VIEW mview AS SELECT * FROM product;
	CREATE SEQUENCE sequence;
	CREATE TABLE partitioned (id int PRIMARY KEY, stock int) PARTITION BY LIST (id);
	CREATE TABLE part_1 PARTITION OF partitioned FOR VALUES IN (1);
	CREATE FOREIGN DATA WRAPPER w;
	CREATE SERVER s FOREIGN DATA WRAPPER w;
	CREATE FOREIGN TABLE foreign_table (id int) SERVER s;
	CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, stock int);
	CREATE FUNCTION echo(json) RETURNS json LANGUAGE sql AS 'SELECT $1';
	CREATE FUNCTION json_cat(json, json) RETURNS json LANGUAGE sql AS 'SELECT $2';
	CREATE AGGREGATE sum_json(json) (SFUNC = json_cat, STYPE = json);
	CREATE FUNCTION raises(json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'RAISE'; END$$;
	CREATE FUNCTION raises_idem(json) RETURNS json LANGUAGE plpgsql AS $$BEGIN PERFORM idem_call('bad', '1', 'raises_idem', $1::jsonb); RETURN $1; END$$;
	CREATE FUNCTION undo_all(json) RETURNS json LANGUAGE plpgsql AS $$BEGIN PERFORM idem_forget('bad', '1'); RETURN $1; END$$;
	CREATE FUNCTION nothing(json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
	CREATE FUNCTION void(json) RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$;
	SELECT idem_machine('bad', 'a -> b -> c; b -> a'), idem_stock_add('item', 1000000, 4), idem_stock_add('other', 1000000);
	-- the token is one of this moment
	CREATE FUNCTION token() RETURNS text LANGUAGE sql AS $$SELECT idem_token_issue('purpose', 'subject')$$;
	-- runs a statement, undoes it, and says how it went
	CREATE FUNCTION try(setup text, stmt text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		message text;
	BEGIN
		BEGIN
			IF setup <> '' THEN EXECUTE setup; END IF;
			EXECUTE stmt;
			RAISE EXCEPTION USING ERRCODE = 'UNDO0';
		EXCEPTION WHEN SQLSTATE 'UNDO0' THEN RETURN 'ok';
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			RETURN SQLSTATE || ' ' || left(message, 200);
		END;
	END $$;
	CREATE TABLE cases (n int PRIMARY KEY, setup text, stmt text);
});

# the functions, with their arguments and the errors that their comments list
my @functions;
for (split /\n/, $node->safe_psql('postgres', q{
	SELECT concat_ws('|', p.proname, p.prokind, p.prorettype::regtype, coalesce(array_to_string(p.proargnames[1:pronargs], ','), ''),
		coalesce((SELECT string_agg(t::regtype::text, ',' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n)), ''),
		translate(substring(obj_description(p.oid, 'pg_proc') FROM 'errors: (.*)'), E'\n', ' '))
	FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND deptype = 'e'
	WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem') ORDER BY p.oid}))
{
	my ($name, $kind, $returns, $names, $types, $errors) = split /\|/, $_, 6;
	next if $returns eq 'trigger' || $name eq 'idem_distribute';    # without citus, which t/140 has, it only says so
	# the forms of the row functions with text[]: what is text or untyped among the values for "any" goes to them
	next if $name =~ /^idem_(?:deduct|lock_row|advance)$/ && $types =~ /text\[\]$/;
	push @functions, { name => $name, kind => $kind, args => [ split /,/, $names // '' ], types => [ map { s/^anycompatiblearray$/text[]/r =~ s/^anycompatible$/text/r } split /,/, $types // '' ],
		errors => { map { $_ => 1 } ($errors // '') =~ /\b([0-9A-Z]{5})\b/g } };
}
cmp_ok(scalar(@functions), '>=', 30, 'functions are found in the catalog');

# a call with these arguments
sub call
{
	my ($f, @given) = @_;
	my @sql;
	for my $i (0 .. $#{ $f->{types} })
	{
		my $type = $f->{types}[$i];
		# these two are what they are given, and the key may be several
		push @sql, $type =~ /^(?:"any"|anyelement)$/ ? $given[$i] : "($given[$i])::$type";
	}
	return ($f->{kind} eq 'p' ? 'CALL ' : 'SELECT * FROM ') . "$f->{name}(" . join(', ', @sql) . ')';
}

# its valid arguments
sub arguments
{
	my ($f) = @_;
	return map { $valid_of{ $f->{name} }{$_} // $valid{$_} } @{ $f->{args} };
}

# Rows of the caller's have the errors of the types and of the server as well: key values, wrong kinds of tables.
my %rows = map { $_ => 1 } qw(idem_deduct idem_lock_row idem_insert idem_advance);
my %of_rows = map { $_ => 1 } qw(22001 22003 22007 22008 22P02 23514 42P01);
# idem_call and idem_handle pass on what the function raises
my %of_call = map { $_ => 1 } qw(RAISE P0001 22023);

# Is this answer one that the function may give?
sub honest
{
	my ($f, $answer) = @_;
	return 1 if $answer eq 'ok';
	my $state = substr($answer, 0, 5);
	return 1 if $f->{errors}{$state};
	return 1 if $rows{ $f->{name} } && $of_rows{$state};
	return 1 if $f->{name} =~ /^idem_(?:call|handle)$/ && $of_call{$state};
	return 0;
}

my @cases;    # [ function, what, statement, wanted answer or undef for any that is honest ]
for my $f (@functions)
{
	my @arguments = arguments($f);
	is(scalar(grep { !defined } @arguments), 0, "$f->{name}: there is a valid value for each argument");
	$_ //= 'NULL' for @arguments;
	push @cases, [ $f, 'valid', call($f, @arguments), 'ok' ];
	for my $i (0 .. $#arguments)
	{
		my ($type, $arg) = ($f->{types}[$i], $f->{args}[$i]);
		my $which = "$f->{name}.$arg";
		my $try = sub {
			my ($value, $wanted) = @_;
			my @given = @arguments;
			$given[$i] = $value;
			push @cases, [ $f, $arg . ' = ' . substr($value, 0, 60), call($f, @given), $wanted ];
		};

		$try->('NULL', $nullable{$which} ? 'ok' : '22004') unless $type =~ /^(?:"any"|anyelement)$/;
		$try->($type =~ /\[\]/ ? q{'{}'} : q{''}, $may_be_empty{$which} ? 'ok' : '22023') if $type =~ /^(?:text|name|text\[\]|numeric\[\])$/;
		if ($type eq 'text')
		{
			ok($limit{$arg} || $unlimited{$which}, "$which: the limit is known");
			$try->("repeat('x', " . ($limit{$arg} + 1) . ')', '22023') if $limit{$arg};
			$try->($long, $arg eq 'definition' ? undef : $unlimited{$which} ? 'ok' : '22023');
		}
		$try->($_) for @{ $odd{$type} // [] };
		ok(exists $odd{$type}, "$which: there are odd values of type $type");
	}
}

# near to what a value can have at all
for my $which (qw(idem_claim.seq idem_token_consume.token idem_machine.definition idem_stock_reserve.item))
{
	my ($name, $arg) = split /\./, $which;
	my ($f) = grep { $_->{name} eq $name } @functions;
	my @given = arguments($f);
	my ($i) = grep { $f->{args}[$_] eq $arg } 0 .. $#given;
	$given[$i] = q{repeat('x', 100000000)};
	push @cases, [ $f, "$arg of 100 MB", call($f, @given), $arg eq 'token' ? 'ok' : '22023' ];
}

# a key of every type, asked for by values of every type
for my $type (qw(smallint bigint numeric text varchar(3) char(3) "char" name bytea uuid date timestamptz boolean float8 interval inet fruit positive int[] varchar(3)[] numeric(5)[] ctype oid jsonb))
{
	my $table = 'key_' . ($type =~ s/\W/_/gr);
	$node->safe_psql('postgres', qq{CREATE TABLE $table (k $type PRIMARY KEY, stock int, status text)});
	for my $value (@{ $odd{'"any"'} })
	{
		push @cases, [ { name => 'idem_lock_row', errors => { map { $_ => 1 } qw(22004 22023 42804 42P10) } }, "key of type $type = " . substr($value, 0, 40), "SELECT idem_lock_row('$table', $value)" ];
	}
}

# trigger arguments, and what they are put on
for my $trigger (qw(idem_version idem_state))
{
	for my $args ('', q{''}, q{'', ''}, q{'stock'}, q{'nosuch'}, q{'ctid'}, q{'note'}, q{'bad', 'status'}, q{'bad', 'stock'}, q{'bad', 'nosuch'}, q{'nosuch', 'status'}, q{'bad', 'status', ''},
		q{'bad', 'status', 'late=error', 'late=error'}, q{'bad', 'status', 'late=maybe'}, q{'bad', 'status', 'insert=initial', 'ahead=allow', 'late=error', 'x=y'}, q{'stock', 'stock'},
		q{'STOCK'}, q{'"stock"'}, "'" . 'x' x 100_000 . "'", "'bad', '" . 'x' x 300 . "'")
	{
		for my $when ('BEFORE UPDATE ON product FOR EACH ROW', 'BEFORE INSERT OR UPDATE ON product FOR EACH ROW', 'AFTER INSERT OR UPDATE OR DELETE ON product FOR EACH ROW', 'BEFORE UPDATE ON product FOR EACH STATEMENT',
			'BEFORE DELETE ON product FOR EACH ROW', 'INSTEAD OF UPDATE ON view FOR EACH ROW')
		{
			my $table = $when =~ /view/ ? 'view' : 'product';
			push @cases, [ { name => $trigger, errors => { map { $_ => 1 } qw(22003 22023 39P01 42703 42804 ID412 ID460) } }, "$when EXECUTE ($args)" =~ s/x{50,}/xxx/r,
				"CREATE TRIGGER t $when EXECUTE FUNCTION $trigger($args); UPDATE $table SET stock = stock + 1; UPDATE $table SET status = 'b', note = NULL; INSERT INTO $table VALUES (7, 7, 'b', 'a'); DELETE FROM $table" ];
		}
	}
}

# all at random: valid or odd
srand($ENV{IDEM_FUZZ_SEED} // 42);
for (1 .. $fuzz)
{
	my $f = $functions[ rand @functions ];
	my @given = arguments($f);
	for my $i (0 .. $#given)
	{
		my $odd = $odd{ $f->{types}[$i] };
		$given[$i] = ('NULL', @$odd)[ rand @$odd ] if rand() < 0.4;
	}
	$_ //= 'NULL' for @given;
	push @cases, [ $f, 'random ' . join(', ', map { substr($_, 0, 30) } @given), call($f, @given) ];
}

# run them; procedures cannot be undone, so they go one by one
my $session = IdemTest::Session->new($node);
my $before = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
for my $route (qw(off on))
{
	my @procedures = grep { ($cases[$_][0]{kind} // 'f') eq 'p' } 0 .. $#cases;
	my @others = grep { ($cases[$_][0]{kind} // 'f') ne 'p' } 0 .. $#cases;
	my %answer;

	if ($route eq 'off')
	{
		my $load = join '', map {
			my ($f, undef, $stmt) = @{ $cases[$_] };
			"INSERT INTO cases VALUES ($_, \$case\$" . ($before{ $f->{name} } // '') . "\$case\$, \$case\$$stmt\$case\$);\n"
		} @others;
		$node->safe_psql('postgres', "BEGIN;\n$load COMMIT;");
	}
	my ($status, $out, $err) = $node->psql('postgres', qq{
		CREATE TEMP TABLE temporary (id int PRIMARY KEY, stock int);
		SET client_min_messages = error;
		SET idem.force_sql = $route;
		SET statement_timeout = '30min';	-- what would never end, ends here
		SELECT n || E'\\t' || translate(try(setup, stmt), E'\\n\\t', '  ') || E'\\t' || (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::int FROM cases ORDER BY n;
	});
	if ($ENV{SLOW}) { my $last = 0; for (split /\n/, $out) { my ($n, $t) = /^(\d+)\t.*\t(\d+)/; diag("$cases[$n][0]{name} $cases[$n][1]: ", $t - $last) if $t - $last > 300; $last = $t; } }
	is($status, 0, "force_sql $route: the session lives") or diag($err);
	%answer = map { /^(\d+)\t(.*)\t/ ? ($1 => $2) : () } split /\n/, $out;

	$session->ask("SET client_min_messages = error; SET idem.force_sql = $route");
	for my $n (@procedures)
	{
		my $said = $session->ask($cases[$n][2]);
		$answer{$n} = $said =~ /^ERROR (\w+)/ ? $1 : 'ok';
	}

	my %bad;
	for my $n (0 .. $#cases)
	{
		my ($f, $what, $stmt, $wanted) = @{ $cases[$n] };
		my $answer = $answer{$n} // 'lost';
		my $good = defined $wanted ? $answer =~ /^\Q$wanted\E/ : honest($f, $answer);
		push @{ $bad{ $f->{name} } }, "$what: $answer" . (defined $wanted ? ", not $wanted" : '') unless $good;
	}
	my %seen;
	for my $name (grep { !$seen{$_}++ } map { $_->[0]{name} } @cases)
	{
		is(join("\n", @{ $bad{$name} // [] }), '', "force_sql $route: $name answers bad input as it should");
	}
}

is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $before, 'the server was not restarted');
my $log = $node->logfile;
$session->end;
$node->stop;
my $said = PostgreSQL::Test::Utils::slurp_file($log);
my @wrong = grep { /PANIC|TRAP|terminated by signal|leak|XX\d{3}|could not/ } split /\n/, $said;
is(join("\n", @wrong), '', 'the log has nothing to say of crashes, leaks and internal errors');
note(scalar(@cases) . ' calls on each route');

done_testing();
