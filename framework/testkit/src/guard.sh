# Runs one server for a test process, and cleans up when that process is gone, however it went:
# the guard holds the read end of a pipe, and the end of file is the news.
#
#     sh guard.sh FOLDER COMMAND...
#
# An order is a line on standard input, answered by a line with the server's id. No order waits
# for the server, so that the end of file is always noticed.
folder=$1
shift
server=

# A group that its parent has left and in which a process stands still is sent a SIGHUP.
trap '' HUP

# The server and its children: PostgreSQL answers from those, each in a group of its own.
family() {
    echo "$server"
    for stat in /proc/[0-9]*/stat; do
        { read -r child _ _ parent _ <"$stat"; } 2>/dev/null || continue
        if [ "$parent" = "$server" ]; then echo "$child"; fi
    done
}

# Stopped first: a server that stands still has no further children.
strike() {
    kill -s STOP "$server"
    kill -s "$1" $(family)
}

while read -r order; do
    case $order in
    START)
        "$@" >>"$folder/log" 2>&1 </dev/null &
        server=$!
        ;;
    REAP)
        wait "$server"
        echo 0
        server=
        continue
        ;;
    STOP | KILL) strike "$order" ;;
    CONT) kill -s CONT $(family) ;;
    *) kill -s "$order" "$server" ;;
    esac
    echo "$server"
done

if [ -n "$server" ]; then
    strike KILL
    wait "$server"
fi
# A PostgreSQL that was killed leaves a segment of shared memory, and a machine has 4096 of them.
if [ -f "$folder/data/postmaster.pid" ]; then
    set -- $(sed -n 7p "$folder/data/postmaster.pid")
    [ -n "$2" ] && ipcrm -m "$2"
fi
rm -rf "$folder"
