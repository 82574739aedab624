# Pins that nobody's objects change what idem does, whatever the search_path and the settings: every kind of trap below stands
# in schemas before pg_catalog and in the temporary schema while every primitive is used, by both routes; the answers are those
# of a clean session, and no trap is sprung. Each trap is shown to work: who calls by a bare name is caught.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $node = idem_node('hostile', 'max_prepared_transactions = 2');

$node->safe_psql('postgres', q{
	CREATE ROLE victim LOGIN;
	CREATE ROLE mallory LOGIN;
	CREATE SCHEMA evil AUTHORIZATION mallory;
	CREATE SCHEMA victim AUTHORIZATION mallory;	-- what "$user" means to the victim
	GRANT USAGE ON SCHEMA evil, victim TO PUBLIC;
	CREATE TYPE public.status AS ENUM ('created', 'paid', 'shipped');
	CREATE TABLE public.product (id int PRIMARY KEY, code text UNIQUE NOT NULL, stock int, money numeric(12,2), status text, kind public.status, version int DEFAULT 1, at timestamptz DEFAULT now(), UNIQUE (status, code));
	ALTER TABLE public.product OWNER TO victim;
	INSERT INTO public.product VALUES (1, 'a', 10, 10, 'created', 'created');
	CREATE TRIGGER state BEFORE INSERT OR UPDATE ON public.product FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status');
	CREATE TRIGGER version BEFORE UPDATE ON public.product FOR EACH ROW EXECUTE FUNCTION idem_version('version');
	SELECT idem_machine('orders', 'created -> paid -> shipped'), idem_stock_add('item', 100, 3), idem_stock_add('other', 100);
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO victim;
	CREATE FUNCTION public.sing(what pg_catalog.text) RETURNS pg_catalog.int4 LANGUAGE plpgsql SET search_path = pg_catalog AS $$BEGIN RAISE WARNING 'CANARY %', what; RETURN 1; END$$;
	CREATE FUNCTION public.answer(r pg_catalog.json) RETURNS pg_catalog.json LANGUAGE plpgsql AS $$BEGIN RETURN pg_catalog.json_strip_nulls(r); END$$;
});

# The traps: [ kind, what makes it, a statement that springs it if written without care (none: there is nothing to call) ].
my @traps;

# a function that sings, and answers this
sub singer
{
	my ($signature, $returns, $answer, $what) = @_;
	return "CREATE FUNCTION $signature RETURNS $returns LANGUAGE plpgsql AS \$f\$BEGIN PERFORM public.sing('$what'); RETURN $answer; END\$f\$;\n";
}

my $number = 0;
# operators over these types
sub operators
{
	my ($kind, $control, $ops, @types) = @_;
	my $sql = '';
	for my $type (@types)
	{
		my ($left, $right) = $type =~ /(.*) and (.*)/ ? ($1, $2) : ($type, $type);
		for my $op (split ' ', $ops)
		{
			my $returns = $op =~ /^[-+*\/|]+$/ ? $right : 'pg_catalog.bool';
			my $name = 'evil.op_' . ++$number;
			$sql .= singer("$name($left, $right)", $returns, $returns eq $right ? '$2' : 'false', "operator $op");
			$sql .= "CREATE OPERATOR evil.$op (LEFTARG = $left, RIGHTARG = $right, FUNCTION = $name);\n";
		}
	}
	push @traps, [ $kind, $sql, $control ];
	return;
}

my $compare = '= <> < > <= >=';
operators('operators on text', q{SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text}, "$compare || ~ ~~", 'pg_catalog.text');
operators('operators on bpchar, varchar and name', q{SELECT 'a'::pg_catalog.name = 'b'::pg_catalog.name}, $compare, qw(pg_catalog.bpchar pg_catalog.varchar pg_catalog.name));
operators('operators on integers', q{SELECT 1::pg_catalog.int8 = 2::pg_catalog.int8}, "$compare + - * /", qw(pg_catalog.int2 pg_catalog.int4 pg_catalog.int8));
operators('operators on numeric', q{SELECT 1.5 >= 2.5}, "$compare + - * /", 'pg_catalog.numeric');
operators('operators on times', q{SELECT '1970-01-01'::pg_catalog.timestamptz < 'infinity'::pg_catalog.timestamptz}, $compare, qw(pg_catalog.timestamptz pg_catalog.interval pg_catalog.date));
operators('operators of times and intervals', q{SELECT '1970-01-01'::pg_catalog.timestamptz + '1 day'::pg_catalog.interval}, '+ -', 'pg_catalog.timestamptz and pg_catalog.interval');
operators('operators on "char"', q{SELECT 'd'::pg_catalog."char" = 'r'::pg_catalog."char"}, $compare, 'pg_catalog."char"');
operators('operators on what names objects', q{SELECT 1::pg_catalog.oid = 2::pg_catalog.oid}, $compare, qw(pg_catalog.oid pg_catalog.regrole pg_catalog.regclass pg_catalog.regproc));
operators('operators on bytea, json and jsonb', q{SELECT '{}'::pg_catalog.jsonb = '[]'::pg_catalog.jsonb}, "$compare ||", qw(pg_catalog.bytea pg_catalog.json pg_catalog.jsonb));
operators('operators on boolean', q{SELECT true = false}, $compare, 'pg_catalog.bool');
operators('operators on arrays', q{SELECT ARRAY['a'::pg_catalog.text] = ARRAY['b'::pg_catalog.text]}, "$compare || @> <@ &&", qw(pg_catalog._text pg_catalog._int4 pg_catalog._numeric));
operators('operators on records', q{SELECT ROW(1, 2)::pg_catalog.record = ROW(1, 3)::pg_catalog.record}, $compare, 'pg_catalog.record');
operators('operators on anything', q{SELECT '(1,1)'::pg_catalog.point = '(1,2)'::pg_catalog.point}, $compare, qw(pg_catalog.anyelement pg_catalog.anyarray pg_catalog.anyenum));
operators('operators across types', q{SELECT 1::pg_catalog.int4 = 2::pg_catalog.int8}, $compare, 'pg_catalog.int4 and pg_catalog.int8', 'pg_catalog.int8 and pg_catalog.int4', 'pg_catalog.text and pg_catalog.name', 'pg_catalog.varchar and pg_catalog.text',
	'pg_catalog.numeric and pg_catalog.int4', 'pg_catalog.int4 and pg_catalog.numeric');
push @traps, [ 'prefix operators', singer('evil.prefix(pg_catalog.numeric)', 'pg_catalog.numeric', '$1', 'prefix') . singer('evil.prefix(pg_catalog.int4)', 'pg_catalog.int4', '$1', 'prefix')
	  . "CREATE OPERATOR evil.- (RIGHTARG = pg_catalog.numeric, FUNCTION = evil.prefix); CREATE OPERATOR evil.- (RIGHTARG = pg_catalog.int4, FUNCTION = evil.prefix);", 'SELECT - (1.5::pg_catalog.numeric)' ];

my @functions = ('now() timestamptz', 'clock_timestamp() timestamptz', 'transaction_timestamp() timestamptz', 'statement_timestamp() timestamptz', 'current_setting(text) text', 'sha256(bytea) bytea', 'length(text) int4', 'octet_length(text) int4',
	'pg_has_role(oid, oid, text) bool', 'json_strip_nulls(json) json', 'array_length(_text, int4) int4', 'encode(bytea, text) text', 'convert_to(text, name) bytea', 'hashtext(text) int4', 'jsonb_hash(jsonb) int4', 'hashtextextended(text, int8) int8',
	'gen_random_uuid() uuid', 'random() float8', 'lower(text) text', 'numeric_sub(numeric, numeric) numeric', 'int4pl(int4, int4) int4', 'text(name) text', 'numeric(int4) numeric', 'int4(numeric) int4', 'texteq(text, text) bool', 'to_json(text) json',
	'pg_advisory_xact_lock(int8) void', 'quote_ident(text) text', 'format(text, text) text', 'row_to_json(record) json', 'enum_in(cstring, oid) anyenum', 'nextval(regclass) int8', 'coalesce(text, text) text', 'current_user() name');
push @traps, [ 'functions', join('', map { my ($signature, $returns) = /(.*\)) (.*)/; $signature =~ s/(?<=[(,\s])(\w+)(?=[,)])/pg_catalog.$1/g;
			my $name = (split /\(/, $_)[0]; $returns eq 'anyenum' || $name =~ /^(?:coalesce|current_user)$/ ? '' : singer("evil.$signature", "pg_catalog.$returns", $returns eq 'void' ? '' : 'NULL', "function $name") } @functions), 'SELECT now()' ];
push @traps, [ 'aggregates', join('', map { my $type = $_; singer("evil.step(pg_catalog.$type, pg_catalog.$type)", "pg_catalog.$type", '$1', 'aggregate')
	  . join('', map { "CREATE AGGREGATE evil.$_(pg_catalog.$type) (SFUNC = evil.step, STYPE = pg_catalog.$type);\n" } qw(count sum max min array_agg)) } qw(text numeric int8 int4)),
	q{SELECT count(t) FROM (VALUES (1.5), (2.5)) AS v (t)} ];
push @traps, [ 'set-returning functions', join('', map { "CREATE FUNCTION evil.$_ RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('set'); END\$\$;\n" } 'unnest(pg_catalog._text)', 'unnest(pg_catalog._numeric)',
		'generate_series(pg_catalog.int4, pg_catalog.int4)'), q{SELECT * FROM unnest('{a}'::pg_catalog._text)} ];
push @traps, [ 'overloads of our functions', join('', map { my ($signature, $returns) = split / -> /; singer("evil.$signature", $returns, 'NULL', "overload") } 'idem_claim(pg_catalog.text, pg_catalog.text) -> pg_catalog.bool',
		'idem_respond(pg_catalog.text, pg_catalog.text, pg_catalog.json) -> pg_catalog.bool', 'idem_lock(pg_catalog.text) -> pg_catalog.int8', 'idem_token_issue(pg_catalog.text) -> pg_catalog.text', 'idem_verdict(pg_catalog.text, pg_catalog.text, pg_catalog.text) -> pg_catalog.text',
		'idem_stock_available(pg_catalog.text) -> pg_catalog.numeric'), q{SELECT idem_lock('a'::pg_catalog.text)} ];
push @traps, [ 'overloads of our trigger functions', "CREATE FUNCTION evil.idem_state() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('trigger'); RETURN NEW; END\$\$; CREATE FUNCTION evil.idem_version() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('trigger'); RETURN NEW; END\$\$;
	CREATE TABLE evil.with_trigger (i pg_catalog.int4)", q{CREATE TEMP TABLE wt (i pg_catalog.int4); CREATE TRIGGER t BEFORE INSERT ON wt FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'i'); INSERT INTO wt VALUES (1)} ];
push @traps, [ 'procedures', "CREATE PROCEDURE evil.idem_purge(pg_catalog.interval) LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('procedure'); END\$\$; CREATE PROCEDURE evil.idem_stock_expire() LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('procedure'); END\$\$", 'CALL idem_stock_expire()' ];
push @traps, [ 'domains', singer('evil.check_sings()', 'pg_catalog.bool', 'true', 'domain') . join(';', map { "CREATE DOMAIN evil.\"$_\" AS pg_catalog.\"$_\" CHECK (evil.check_sings())" } qw(text int8 int4 int2 numeric bool bytea name interval timestamptz regrole char jsonb oid)), q{SELECT 1::"int4"} ];
push @traps, [ 'composite types', 'CREATE TYPE evil.json AS (a pg_catalog.int4); CREATE TYPE evil._text AS (a pg_catalog.int4); CREATE TYPE evil.regproc AS (a pg_catalog.int4)', undef ];
push @traps, [ 'enums and ranges', "CREATE TYPE evil.regclass AS ENUM ('product'); CREATE TYPE evil.uuid AS RANGE (subtype = pg_catalog.int4, multirange_type_name = evil.uuids)", undef ];

my @ours = qw(claim lock stock hold transition token_key token_spent token_rate product);
push @traps, [ 'tables with triggers', "CREATE FUNCTION evil.fires() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS \$\$BEGIN PERFORM public.sing('table'); RETURN NEW; END\$\$;" . join(';', map { "CREATE TABLE evil.$_ (source pg_catalog.text, seq pg_catalog.text); GRANT ALL ON evil.$_ TO PUBLIC; CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON evil.$_ FOR EACH STATEMENT EXECUTE FUNCTION evil.fires()" } @ours),
	"INSERT INTO claim VALUES ('a', 'b')" ];
push @traps, [ 'rules', join(';', map { "CREATE TABLE evil.ruled_$_ (source pg_catalog.text); GRANT ALL ON evil.ruled_$_ TO PUBLIC; CREATE RULE r AS ON INSERT TO evil.ruled_$_ DO INSTEAD SELECT public.sing('rule')" } @ours), "INSERT INTO ruled_claim VALUES ('a')" ];
push @traps, [ 'views of the catalogs', join(';', map { "CREATE VIEW evil.$_ AS SELECT public.sing('catalog'); GRANT ALL ON evil.$_ TO PUBLIC" } qw(pg_class pg_namespace pg_proc pg_authid pg_roles pg_type pg_index pg_attribute pg_extension pg_trigger pg_locks pg_enum)), 'SELECT * FROM pg_class' ];
push @traps, [ 'sequences, indexes, matviews', join(';', 'CREATE SEQUENCE evil.claim_pkey', 'CREATE TABLE evil.t (i pg_catalog.int4)', 'CREATE INDEX lock_pkey ON evil.t (i)', 'CREATE INDEX product_pkey ON evil.t (i)', "CREATE MATERIALIZED VIEW evil.hold_pkey AS SELECT 1 AS i"), undef ];
push @traps, [ 'a collation "C" that takes A for a', q{CREATE COLLATION evil."C" (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE COLLATION evil."default" FROM evil."C"; CREATE COLLATION evil."POSIX" FROM evil."C"}, q{SELECT 1 OPERATOR(pg_catalog./) (('a'::pg_catalog.text COLLATE "C") OPERATOR(pg_catalog.<>) ('A'::pg_catalog.text COLLATE "C"))::pg_catalog.int4}, '22012' ];
push @traps, [ 'objects in the schema "$user"', singer('victim.now()', 'pg_catalog.timestamptz', 'NULL', 'user') . 'CREATE TABLE victim.claim (i pg_catalog.int4)', 'SELECT now()', undef, '"$user", pg_catalog' ];
# what only a superuser can make
my @super = ([ 'operator classes of ours names', singer('evil.cmp(pg_catalog.text, pg_catalog.text)', 'pg_catalog.int4', '0', 'operator class') =~ s/LANGUAGE plpgsql/LANGUAGE plpgsql IMMUTABLE/r
		. 'CREATE OPERATOR CLASS evil.text_ops FOR TYPE pg_catalog.text USING btree AS OPERATOR 1 pg_catalog.<, OPERATOR 2 pg_catalog.<=, OPERATOR 3 pg_catalog.=, OPERATOR 4 pg_catalog.>=, OPERATOR 5 pg_catalog.>, FUNCTION 1 evil.cmp(pg_catalog.text, pg_catalog.text)',
		q{CREATE TEMP TABLE oc (t pg_catalog.text); INSERT INTO oc VALUES ('a'), ('b'); CREATE INDEX ON oc USING btree (t text_ops)} ],
	[ 'conversions', 'CREATE DEFAULT CONVERSION evil.utf8_to_iso_8859_1 FOR \'UTF8\' TO \'LATIN1\' FROM pg_catalog.utf8_to_iso8859_1', undef ]);

# made by each session for itself
my @temp = ([ 'temporary tables', join(';', map { "CREATE TEMP TABLE $_ (source pg_catalog.text, seq pg_catalog.text, name pg_catalog.text, machine pg_catalog.text)" } @ours, 'idem', 'pg_extension'), undef ],
	[ 'temporary views of the catalogs', join(';', map { "CREATE TEMP VIEW $_ AS SELECT public.sing('temporary catalog')" } qw(pg_class pg_namespace pg_proc pg_roles pg_type pg_index pg_attribute)), 'SELECT * FROM pg_temp.pg_class' ],
	[ 'temporary functions', singer('pg_temp.now()', 'pg_catalog.timestamptz', 'NULL', 'temporary function') . singer('pg_temp.sha256(pg_catalog.bytea)', 'pg_catalog.bytea', 'NULL', 'temporary function'), 'SELECT pg_temp.now()' ],
	[ 'temporary types', singer('pg_temp.check_sings()', 'pg_catalog.bool', 'true', 'temporary type') . 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.check_sings()); CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK (pg_temp.check_sings())', q{SELECT 1::pg_temp.int8} ]);

my $made = '';
$made .= "$_->[1];\n" for @traps;
$node->safe_psql('postgres', $made, extra_params => [ '-U', 'mallory' ]);
$node->safe_psql('postgres', join ';', map { $_->[1] } @super);
cmp_ok(@traps + @super + @temp, '>=', 25, (@traps + @super + @temp) . ' kinds of traps');

# The settings that a session may have: they change nothing, either.
my @settings = ('transform_null_equals = on', 'quote_all_identifiers = on', 'array_nulls = off', q{datestyle = 'German, DMY'}, q{intervalstyle = 'sql_standard'}, q{bytea_output = 'escape'}, 'extra_float_digits = -15', q{timezone = 'Asia/Kathmandu'},
	'standard_conforming_strings = off', 'row_security = off', q{default_table_access_method = 'heap'}, q{plan_cache_mode = 'force_generic_plan'}, 'enable_indexscan = off', 'enable_seqscan = off', 'enable_bitmapscan = off', 'jit = on', 'jit_above_cost = 0',
	'force_parallel_mode = on', 'from_collapse_limit = 1', 'geqo_threshold = 2', q{xmloption = 'document'}, 'check_function_bodies = off', 'default_transaction_deferrable = on', 'operator_precedence_warning = on', 'lo_compat_privileges = on', 'synchronous_commit = off',
	q{client_encoding = 'LATIN1'}, q{default_toast_compression = 'pglz'}, 'constraint_exclusion = on', 'cursor_tuple_fraction = 0', 'work_mem = 64', q{backslash_quote = 'on'}, q{default_text_search_config = 'pg_catalog.simple'});
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');

# Every primitive, called as its owner means it: qualified down to the types. It is undone, so all can ask the same.
sub t { return "'$_[0]'::pg_catalog.text"; }
my $prod = q{'public.product'::pg_catalog.regclass};
my @work = (
	'public.idem_claim(' . t('hp') . ', ' . t('1') . q{, '{"a": 1, "b": 2}'::pg_catalog.jsonb, true)},
	'public.idem_claim(' . t('hp') . ', ' . t('1') . q{, '{"b": 2, "a": 1}'::pg_catalog.jsonb, false)},
	'public.idem_claim(' . t('hp') . ', ' . t('A') . ', NULL, true)', 'public.idem_claim(' . t('hp') . ', ' . t('a') . ', NULL, true)',
	'public.idem_respond(' . t('hp') . ', ' . t('1') . q{, '[1]'::pg_catalog.json)}, 'public.idem_response(' . t('hp') . ', ' . t('1') . ')',
	'(public.idem_lookup(' . t('hp') . ', ' . t('1') . ')).status',
	'(' . join(' OPERATOR(pg_catalog.||) ', map { 'public.idem_call(' . t('hp') . ', ' . t('c') . q{, 'public.answer'::pg_catalog.regproc, '{"x": null}'::pg_catalog.jsonb)::pg_catalog.text} } 1, 2) . ')',
	'(SELECT pg_catalog.string_agg(claimed::pg_catalog.text, ' . t(' ') . ') FROM public.idem_claim_batch(' . t('hp') . ", ARRAY['1', 'b', 'b', 'B']::pg_catalog._text))",
	'public.idem_cancel(' . t('hp') . ', ' . t('x') . ')', 'public.idem_cancel(' . t('hp') . ', ' . t('1') . ')', 'public.idem_forget(' . t('hp') . ', ' . t('1') . ')', 'public.idem_forget(' . t('hp') . ', ' . t('1') . ')',
	'(public.idem_begin(' . t('hp') . ', ' . t('w') . q{, '1 hour'::pg_catalog.interval, NULL, true)).fence}, 'public.idem_renew(' . t('hp') . ', ' . t('w') . q{, 1, '1 hour'::pg_catalog.interval) IS NOT NULL},
	'public.idem_fail(' . t('hp') . ', ' . t('w') . q{, 1, '{}'::pg_catalog.json, true)}, '(public.idem_begin(' . t('hp') . ', ' . t('w') . q{, '1 hour'::pg_catalog.interval, NULL, true)).fence},
	'public.idem_complete(' . t('hp') . ', ' . t('w') . q{, 2, '{}'::pg_catalog.json)}, '(public.idem_begin(' . t('hp') . ', ' . t('w') . q{, '1 hour'::pg_catalog.interval, NULL, true)).status},
	'public.idem_lock(' . t('hp') . q{, '1 hour'::pg_catalog.interval)}, 'public.idem_lock_renew(' . t('hp') . q{, 1, '1 hour'::pg_catalog.interval)}, 'public.idem_lock_check(' . t('hp') . ', 1)', 'public.idem_unlock(' . t('hp') . ', 1)', 'public.idem_lock(' . t('hp') . q{, '1 hour'::pg_catalog.interval)},
	'public.idem_token_issue(' . t('hp') . ', ' . t('s') . q{, '1 hour'::pg_catalog.interval, 2, '1 hour'::pg_catalog.interval) IS NOT NULL}, 'public.idem_token_issue(' . t('hp') . ', ' . t('s') . q{, '1 hour'::pg_catalog.interval, 2, '1 hour'::pg_catalog.interval) IS NOT NULL},
	"pg_catalog.set_config('hp.token', public.idem_token_issue(" . t('hp') . ', ' . t('') . q{, '1 hour'::pg_catalog.interval, NULL, '1 hour'::pg_catalog.interval), false) IS NOT NULL},
	(map { "public.idem_token_$_(pg_catalog.current_setting('hp.token'), " . t('hp') . ', ' . t('') . ')' } qw(status consume status consume)),
	'public.idem_token_rotate(public.idem_token_issue(' . t('hp') . ', ' . t('') . q{, '1 hour'::pg_catalog.interval, NULL, '1 hour'::pg_catalog.interval), } . t('hp') . ', ' . t('') . q{, '1 hour'::pg_catalog.interval) IS NOT NULL}, 'public.idem_token_rekey()',
	'public.idem_machine(' . t('hp') . ', ' . t('a -> b -> c; b -> a') . ')', 'public.idem_machine_graph(' . t('hp') . ')', (map { 'public.idem_verdict(' . t('hp') . ', ' . t('a') . ', ' . t($_) . ')' } qw(a b c)),
	"public.idem_deduct($prod, 'stock'::pg_catalog.name, 3::pg_catalog.numeric, 1)", "public.idem_deduct($prod, 'stock'::pg_catalog.name, 30::pg_catalog.numeric, 1)", "public.idem_deduct('public.product_code_key'::pg_catalog.regclass, 'money'::pg_catalog.name, 0.01::pg_catalog.numeric, " . t('a') . ')',
	"public.idem_deduct('public.product_status_code_key'::pg_catalog.regclass, 'money'::pg_catalog.name, 0.01::pg_catalog.numeric, 'created'::pg_catalog.name, 'a'::pg_catalog.bpchar)",
	"public.idem_deduct($prod, 'stock'::pg_catalog.name, 1::pg_catalog.numeric, 1::pg_catalog.int8)", "public.idem_deduct($prod, 'stock'::pg_catalog.name, 1::pg_catalog.numeric, 1.0::pg_catalog.numeric)", "public.idem_deduct($prod, 'stock'::pg_catalog.name, 1::pg_catalog.numeric, '1')",
	"public.idem_lock_row($prod, 1)", "public.idem_lock_row($prod, 2)",
	(map { "(SELECT pg_catalog.concat_ws(" . t(' ') . ", i.inserted, (i.stored).id, (i.stored).code, (i.stored).stock, (i.stored).version) FROM public.idem_insert(ROW($_, NULL, 5, 5, 'created', 'created', NULL, NULL)::public.product, NULL) AS i)" } q{2, 'b'}, q{2, 'b'}) ,
	"public.idem_advance(" . t('orders') . ", $prod, 'status'::pg_catalog.name, " . t('paid') . ', 1)', "public.idem_advance(" . t('orders') . ", $prod, 'status'::pg_catalog.name, " . t('created') . ', 1)', "public.idem_advance(" . t('orders') . ", $prod, 'kind'::pg_catalog.name, " . t('paid') . ', 1)',
	'(SELECT pg_catalog.concat_ws(' . t(' ') . ', stock, money, status, kind, version) FROM public.product WHERE id OPERATOR(pg_catalog.=) 1)',
	'public.idem_stock_add(' . t('hp') . ', 10::pg_catalog.numeric, 4)', 'public.idem_stock_reserve(' . t('hp') . ', ' . t('s') . ', ' . t('item') . q{, 3::pg_catalog.numeric, '1 hour'::pg_catalog.interval)},
	'public.idem_stock_reserve_items(' . t('hp') . ', ' . t('m') . q{, ARRAY['other', 'item']::pg_catalog._text, ARRAY[1, 2]::pg_catalog._numeric, NULL::pg_catalog.interval, true)}, 'public.idem_stock_confirm(' . t('hp') . ', ' . t('s') . ')', 'public.idem_stock_release(' . t('hp') . ', ' . t('m') . ')',
	'public.idem_stock_available(' . t('item') . ')');
s/, NULL, 5, 5, 'created'/, 5, 5, 'created'/ for @work;

# the answers of all of them under this path: what is printed, and what was said
sub answers
{
	my ($path, $route, $prepare, @settings) = @_;
	my $script = "\\set VERBOSITY terse\n\\pset null NULL\n$prepare;\n" . join('', map { "SET $_;\n" } @settings) . "SET idem.force_sql = $route;\nSET search_path = $path;\n";
	# twice: what the first makes, the second uses
	for (1, 2)
	{
		$script .= "BEGIN;\n" . join('', map { "SELECT $_;\n" } @work) . "UPDATE public.product SET status = 'shipped' WHERE id OPERATOR(pg_catalog.=) 1;\n\\echo :ERROR :SQLSTATE\nROLLBACK;\n"
		  . "CALL public.idem_purge('100 years'::pg_catalog.interval, 1000);\nCALL public.idem_stock_expire(1000);\n";
	}
	my (undef, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
	# not every server has each of them, or may be told so
	$err =~ s/.*(?:parameter|operator_precedence_warning|non-standard string literals).*\n?//g if @settings;
	return ($out, $err);
}

my ($plain, $said) = answers('public, pg_catalog', 'off', '');
is($said, '', 'clean: no error') or diag($plain);
is($plain =~ s/ERROR//gr, $plain, 'clean: no error in the answers');
diag($plain) if $ENV{SHOW};
cmp_ok(scalar(split /\n/, $plain, -1), '>', 2 * @work, scalar(@work) . ' calls, twice');

my $temporary = join ';', map { $_->[1] } @temp;
for my $route (qw(off on))
{
	is((answers('public, pg_catalog', $route, ''))[0], $plain, "clean, force_sql $route: the same answers");
	for my $path ('evil, pg_catalog', 'evil, pg_temp, pg_catalog', 'pg_temp, evil, public, pg_catalog', 'evil', '"$user", evil, pg_catalog', q{''}, 'nosuch', 'pg_catalog, evil', 'evil, victim, public, pg_temp, pg_catalog')
	{
		my ($out, $err) = answers($path, $route, $temporary);
		is($out, $plain, "force_sql $route, search_path $path: the same answers");
		is($err, '', "force_sql $route, search_path $path: nothing is said");
	}
	my ($out, $err) = answers('evil, pg_temp, pg_catalog', $route, $temporary, grep { !/^(?:row_security|work_mem)/ } @settings);
	is($out, $plain, "force_sql $route: " . @settings . ' settings: the same answers');
	is($err, '', "force_sql $route, settings: nothing is said");
}

# plans that were made under one path are used under another: one session, back and forth
{
	my $script = "\\pset null NULL\n$temporary;\n";
	for my $path ('public, pg_catalog', 'evil, pg_temp, pg_catalog', 'public, pg_catalog', 'pg_temp, evil, pg_catalog')
	{
		for my $route (qw(off on))
		{
			$script .= "SET search_path = $path;\nSET idem.force_sql = $route;\nBEGIN;\n" . join('', map { "SELECT $_;\n" } @work) . "ROLLBACK;\n";
		}
	}
	my (undef, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
	my ($once) = $plain =~ /(.*?)false 00000\n/s;
	is($out . "\n", $once x 8, 'paths back and forth in one session: the same answers');
	is($err, '', 'paths back and forth: nothing is said');
}

# as the victim, who owns the table and calls from a function with a path of its own
$node->safe_psql('postgres', q{CREATE FUNCTION public.careless() RETURNS text LANGUAGE plpgsql SET search_path = evil, pg_temp, pg_catalog AS $$
	BEGIN RETURN pg_catalog.concat(public.idem_claim('victim'::pg_catalog.text, 'k'::pg_catalog.text, NULL, true), public.idem_lock('victim'::pg_catalog.text, '1 hour'::pg_catalog.interval), public.idem_deduct('public.product'::pg_catalog.regclass, 'stock'::pg_catalog.name, 1::pg_catalog.numeric, 1)); END$$});
{
	my (undef, $out, $err) = $node->psql('postgres', "SELECT careless(); SET idem.force_sql = on; SELECT careless();", extra_params => [ '-U', 'victim' ]);
	is("$out|$err", "t1t\nft|", 'called from a function with a hostile path of its own');
}

# the traps do work
for (@traps, @super, @temp)
{
	my ($kind, $make, $control, $wanted, $path) = @$_;
	next unless $control;
	my $temp = (grep { $_->[0] eq $kind } @temp) ? "$make;\n" : '';
	my (undef, undef, $err) = $node->psql('postgres', "${temp}SET search_path = " . ($path // 'evil, public, pg_temp, pg_catalog') . ";\n$control", on_error_stop => 0, extra_params => [ '-U', $path ? 'victim' : $ENV{PGUSER} ]);
	like($err, $wanted ? qr/division by zero/ : qr/CANARY/, "control: $kind catch who is careless");
}

$node->stop;
done_testing();
