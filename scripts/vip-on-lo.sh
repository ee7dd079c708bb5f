#!/bin/sh
# Puts a VIP, or a prefix of VIPs, on the loopback interface of a backend, or takes it away. The backend accepts packets
# for it then, and does not tell the wire that it has it: ARP and neighbour discovery go on to find the balancer.
#
#     vip-on-lo.sh add|del VIP|PREFIX
set -eu

usage() {
    echo "usage: $0 add|del VIP|PREFIX" >&2
    exit 2
}

[ $# -eq 2 ] || usage
case $1 in add | del) ;; *) usage ;; esac

case $2 in
*:*)
    # Neighbour discovery answers for addresses of the interface that is asked only.
    family=-6
    single=128
    ;;
*)
    family=-4
    single=32
    if [ "$1" = add ]; then
        # Answer ARP for addresses of the interface that is asked only; ask with an address of the interface that asks.
        echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
        echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
    fi
    ;;
esac

# Done is done: adding what is there, and removing what is not, are no errors.
case $2 in
*/*)
    # Not an address but a route: the host takes packets for every address of the prefix.
    there=$(ip $family route show table local type local exact "$2" dev lo)
    case $1 in
    add) [ -n "$there" ] || ip route add local "$2" dev lo ;;
    del) [ -z "$there" ] || ip route del local "$2" dev lo ;;
    esac
    ;;
*)
    there=$(ip -oneline address show dev lo to "$2/$single")
    case $1 in
    add) [ -n "$there" ] || ip address add "$2/$single" dev lo ;;
    del) [ -z "$there" ] || ip address del "$2/$single" dev lo ;;
    esac
    ;;
esac
