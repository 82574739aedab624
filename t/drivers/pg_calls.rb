# Ruby pg: parameters are untyped text; the SQLSTATE is in the result that the error carries
require 'pg'

$stdout.sync = true
conn = PG.connect
conn.set_notice_processor { |_| }
puts "version\tpg #{PG::VERSION}"

while (line = $stdin.gets)
  mode, sql, *rest = line.chomp.split("\t", -1)
  params = rest.each_slice(2).map do |kind, text|
    case kind
    when 'int', 'bigint' then text.to_i
    when 'bool' then text == 'true'
    when 'texts', 'ints', 'numerics' then PG::TextEncoder::Array.new.encode(text.split(','))
    else text
    end
  end
  begin
    work = -> { conn.exec_params(sql, params).values }
    rows = mode == 'block' ? conn.transaction { work.call } : work.call
    puts "ok\t" + rows.map { |row| row.join(',') }.join('/')
  rescue PG::Error => e
    puts "error\t#{e.result ? e.result.error_field(PG::Result::PG_DIAG_SQLSTATE) : 'client'}\t#{e.message.split.join(' ')}"
  end
end
