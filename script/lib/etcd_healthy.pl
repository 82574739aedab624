# Is the etcd at this port of 127.0.0.1 healthy? By the status.
#
#	etcd_healthy.pl PORT
use strict;
use warnings;

use IO::Socket::INET;

my $socket = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or exit 1;
print $socket "GET /health HTTP/1.0\r\n\r\n";
exit !(join('', readline $socket) =~ /"health":"true"/);
