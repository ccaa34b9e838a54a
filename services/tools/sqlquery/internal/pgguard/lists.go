package pgguard

import "strings"

// Functions returns those of pg_catalog that compute a value from their
// arguments, or rows from few values. Left out are those that read or write
// beyond the query (files, settings, sequences, large objects, locks, other
// queries in text), tell of the server or its catalogue, wait, or make a large
// value from small ones (repeat, lpad, rpad, array_fill).
func Functions() []string {
	return strings.Fields(`
		abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd
		degrees div erf erfc exp factorial floor gcd lcm ln log log10 min_scale mod pi pow power radians random round
		scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket
		array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every grouping json_agg
		json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc range_agg regr_avgx
		regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
		stddev_samp string_agg sum any_value var_pop var_samp variance
		cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
		ascii bit_length btrim char_length character_length chr concat concat_ws decode encode initcap left
		length like_escape lower ltrim md5 normalize is_normalized octet_length overlay position quote_literal
		quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
		regexp_split_to_array regexp_split_to_table regexp_substr replace reverse right rtrim sha224 sha256 sha384
		sha512 similar_to_escape split_part starts_with string_to_array string_to_table strpos substr substring
		to_hex translate upper
		age clock_timestamp date_bin date_part date_trunc extract isfinite justify_days justify_hours
		justify_interval make_date make_interval make_time make_timestamp make_timestamptz now overlaps
		statement_timestamp timezone to_char to_date to_number to_timestamp transaction_timestamp
		array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions
		array_prepend array_remove array_replace array_to_string array_upper cardinality trim_array unnest
		generate_series generate_subscripts
		array_to_json json_array_elements json_array_elements_text json_array_length json_build_array
		json_build_object json_each json_each_text json_extract_path json_extract_path_text json_object
		json_object_keys json_strip_nulls json_typeof jsonb_array_elements jsonb_array_elements_text
		jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
		jsonb_extract_path_text jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query
		jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_strip_nulls jsonb_typeof row_to_json
		to_json to_jsonb
		lower_inc lower_inf upper_inc upper_inf range_merge num_nonnulls num_nulls isempty
		daterange int4range int8range numrange tsrange tstzrange
		bool date float4 float8 int2 int4 int8 interval numeric text time timestamp timestamptz`)
}

// types that a value may be cast to. Left out are those that ask the catalogue
// (regclass and the like), that are made of tables (each table is a type), and
// domains.
var types = set(strings.Fields(`
	bool boolean int2 int4 int8 smallint integer bigint float4 float8 real numeric decimal money text varchar bpchar
	char name bytea date time timetz timestamp timestamptz interval json jsonb jsonpath uuid inet cidr macaddr bit
	varbit int4range int8range numrange daterange tsrange tstzrange`))

// systemColumns are columns that every table has and that nobody declared.
var systemColumns = set(strings.Fields("tableoid xmin cmin xmax cmax ctid"))

// collations that do not depend on what is installed.
var collations = set(strings.Fields("C POSIX default ucs_basic unicode"))

// nodes are the kinds of nodes of a tree that may be there, by their names in
// libpg_query. Some of them are looked at more closely.
var nodes = set(strings.Fields(`
	Node List Alias ResTarget Integer Float Boolean String BitString A_Const A_Star A_Expr A_ArrayExpr A_Indices
	A_Indirection BoolExpr BooleanTest CaseExpr CaseWhen CoalesceExpr CollateClause ColumnRef CommonTableExpr
	FuncCall GroupingFunc GroupingSet JoinExpr MinMaxExpr NamedArgExpr NullTest ParamRef RangeFunction
	RangeSubselect RangeVar RowExpr SelectStmt SortBy SQLValueFunction SubLink TypeCast TypeName
	WindowDef WithClause`))
