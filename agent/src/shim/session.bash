# The loop that a session's shell runs; started by the shim as `bash --login -c <this> bash <folder>`.
#
# In:  <folder>/commands, a FIFO: `here`, or the name of a file in the folder, or nothing for the end; then, there or in
#      the file, the line's fields: stdin's FIFO (or nothing), stdout's, stderr's, directory, count, count × (name,
#      value), line. All NUL-terminated; the FIFOs are in the folder.
# Out: <folder>/reports, a FIFO: `ready`, `started`, and `ended`, code, directory; each NUL-terminated.
#      `started` is said when the line's streams are open.
#
# The line runs in this very shell, at top level, so that whatever it changes holds for the next.
# It may therefore do anything to it: break out of these loops, exit, set -e. Whatever ends the
# shell's script runs the EXIT trap, which saves what a new bash would not know and execs one.
# All of it is one command, so that it is parsed before any alias exists. Runs on bash 4.2.
# The shim makes it one line, so that bash counts the user's lines from 1: a line here ends in a word after which a
# command may come, or it gets a semicolon.
{
# A FIFO is opened for both first: then no open waits for a shim that is gone.
exec </dev/null >/dev/null 2>&1 249<>"$1/commands" 250<"$1/commands" \
  249<>"$1/reports" 251>"$1/reports" 249<&-
shopt -s expand_aliases
if [[ -n ${2-} ]]; then
  . "$1/state"
  . "$1/options"
fi
__hpcc_dir=$1 __hpcc_busy='' __hpcc_undo='' __hpcc_here='' __hpcc_back='' __hpcc_code=${2:-0}
__hpcc_status() { return "$1"; }
# Undoes what holds for one line only. The variables are undone by their caller.
__hpcc_after='
  if [[ -n $__hpcc_back && $PWD == "$__hpcc_here" ]]; then
    CDPATH= builtin cd -- "$__hpcc_back" && OLDPWD=$__hpcc_old
  fi
  __hpcc_back=
'
# A shell that no line ended, or whose shim is gone, just goes: nobody would ever end the next one.
__hpcc_exit='{
  __hpcc_code=$?
  [[ -n $__hpcc_busy ]] && builtin kill -0 "$PPID" || exit "$__hpcc_code"
  exec </dev/null >/dev/null 2>&1 249<>"$__hpcc_dir/reports" 251>"$__hpcc_dir/reports" 249<&-
  builtin set +o >|"$__hpcc_dir/options"
  builtin set +euvx
  builtin eval "$__hpcc_after"
  { shopt -p; declare -f; declare -p; printf "%s\n" "$__hpcc_undo"; alias -p; } >|"$__hpcc_dir/state"
  builtin printf "ended\0%s\0%s\0" "$__hpcc_code" "$PWD" >&251
  exec -- "$BASH" -c "$BASH_EXECUTION_STRING" bash "$__hpcc_dir" "$__hpcc_code"
} 2>/dev/null'
while :; do
  while :; do
    trap "$__hpcc_exit" EXIT
    trap '[[ -z $__hpcc_busy ]] || exit 130' INT
    trap '[[ -z $__hpcc_busy ]] || exit 143' TERM
    trap '[[ -z $__hpcc_busy ]] || exit 129' HUP
    trap '[[ -z $__hpcc_busy ]] || exit 131' QUIT
    trap '[[ -z $__hpcc_busy ]] || exit 138' USR1
    trap '[[ -z $__hpcc_busy ]] || exit 140' USR2
    if [[ -n $__hpcc_busy ]]; then
      # The line said `continue` and so came here without its end.
      break
    fi
    if [[ -z ${__hpcc_ready-} ]]; then
      __hpcc_ready=1
      builtin printf 'ready\0' >&251
    fi
    IFS= read -r -d '' -u 250 __hpcc_from || {
      # Above 128 a signal came while the shell was idle; else the shim is gone.
      if (( $? > 128 )); then continue; else break; fi
    }
    if [[ -z $__hpcc_from ]]; then break; fi
    __hpcc_busy=1
    if [[ $__hpcc_from == here ]]; then
      exec <&250
    else
      exec <"$__hpcc_dir/$__hpcc_from"
    fi
    IFS= read -r -d '' __hpcc_in
    IFS= read -r -d '' __hpcc_out
    IFS= read -r -d '' __hpcc_err
    IFS= read -r -d '' __hpcc_cwd
    IFS= read -r -d '' __hpcc_count
    while (( __hpcc_count > 0 )); do
      __hpcc_count=$(( __hpcc_count - 1 ))
      IFS= read -r -d '' __hpcc_name
      IFS= read -r -d '' __hpcc_value
      __hpcc_undo+="unset -v $__hpcc_name; $(declare -p "$__hpcc_name" || :)"$'\n'
      export "$__hpcc_name=$__hpcc_value" || :
    done
    IFS= read -r -d '' __hpcc_line
    if [[ -n $__hpcc_in ]]; then
      exec <"$__hpcc_dir/$__hpcc_in"
    else
      exec </dev/null
    fi
    if [[ -n $__hpcc_cwd ]]; then
      __hpcc_back=$PWD __hpcc_old=${OLDPWD-}
      if CDPATH='' builtin cd -- "$__hpcc_cwd"; then
        __hpcc_here=$PWD
      else
        __hpcc_back=''
        builtin printf 'hpcagent: %s: cannot start in this directory\n' "$__hpcc_cwd" 2>/dev/null \
          >"$__hpcc_dir/$__hpcc_err"
        __hpcc_code=126
        break
      fi
    fi
    {
      builtin printf 'started\0' >&251
      # As at a prompt, `$?` is the code of the line before.
      [[ $__hpcc_code == 0 || $- == *e* ]] || __hpcc_status "$__hpcc_code"
      builtin eval "$__hpcc_line" 250<&- 251>&-
    } >"$__hpcc_dir/$__hpcc_out" 2>"$__hpcc_dir/$__hpcc_err"
    __hpcc_code=$?
    break
  done
  if [[ -z $__hpcc_busy ]]; then
    trap - EXIT
    exit 0
  fi
  exec </dev/null
  builtin eval "$__hpcc_after"
  builtin eval "$__hpcc_undo"
  __hpcc_undo=''
  __hpcc_busy=''
  builtin printf 'ended\0%s\0%s\0' "$__hpcc_code" "$PWD" >&251
done
}
