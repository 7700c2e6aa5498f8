"""What bash, zsh and fish run to complete: each asks `kapla`, and shows what it is told.

`kapla` is given the line as far as the cursor, and answers with lines of type, value and help:

    plain   a whole word; a blank goes behind it
    open    what goes on, as a directory's name
    file    the shell completes a path by itself; dir: of a directory

bash cuts words at `:`, `=` and `@` too, so what stands before the last piece is taken off there.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FILE_NAMES", "SHELLS", "script"]

SHELLS: Final = ("bash", "zsh", "fish")
FILE_NAMES: Final = {"bash": "kapla", "zsh": "_kapla", "fish": "kapla.fish"}
"""How each shell wants the file with its script to be called."""

_BASH: Final = r"""# Completion of kapla for bash 4.4 or later.

# Writes the value of who calls this within the quotes that are open there, if any are. Names may
# come from strangers, and nothing of them is ever to be run.
_kapla_quote_value() {
    local sign
    case "$quote" in
        \') value="${value//\'/\'\\\'\'}" ;;
        \")
            for sign in \\ '$' '`' \"; do value="${value//"$sign"/\\"$sign"}"; done
            # Nothing but other quotes keeps this from meaning a line of before.
            value="${value//!/\"\'!\'\"}"
            ;;
        *) printf -v value '%q' "$value" ;;
    esac
}

_kapla_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" program="$1"
    local kind value help before quote rest piece="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=()
    # What stands in the word before the piece that bash replaces, which ends at the cursor.
    while [[ -n $piece && $line != *"$piece" ]]; do piece="${piece%?}"; done
    before="${line%"$piece"}"
    before="${before##*[[:space:]]}"
    # An @ is a piece of its own, and yet replaced together with what follows it; quotes are not.
    if [[ $piece == [\"\']* ]]; then quote="${piece:0:1}"; else before="${before%@}"; fi
    rest="${piece#"$quote"}"
    [[ $quote == \' ]] || rest="${rest//\\?/}"
    # What quotes are open is not known where some are closed, or begin within a word.
    [[ $rest == *[${quote:-\"\'}]* ]] && return
    while IFS=$'\t' read -r kind value help; do
        case "$kind" in
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            plain | open)
                [[ $kind == open ]] && compopt -o nospace 2>/dev/null
                _kapla_quote_value
                COMPREPLY+=("${value#"$before"}")
                ;;
        esac
    done < <(_KAPLA_COMPLETE=bash_complete _KAPLA_LINE="$line" "$program" 2>/dev/null)
}

complete -o nosort -F _kapla_completion kapla
"""

_ZSH: Final = r"""#compdef kapla
# Completion of kapla for zsh.

_kapla() {
    local kind value help line
    local -a whole whole_shown begun begun_shown
    line="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
    # What stands behind the = of an option is completed alone.
    [[ $PREFIX == --*=* ]] && compset -P '*='
    while IFS=$'\t' read -r kind value help; do
        case "$kind" in
            file) _files ;;
            dir) _files -/ ;;
            plain)
                whole+=("$value")
                whole_shown+=("$value${help:+  -- $help}")
                ;;
            open)
                begun+=("$value")
                begun_shown+=("$value${help:+  -- $help}")
                ;;
        esac
    done < <(_KAPLA_COMPLETE=zsh_complete _KAPLA_LINE="$line" "${words[1]}" 2>/dev/null)
    (( $#whole )) && compadd -V kapla -l -d whole_shown -a whole
    (( $#begun )) && compadd -V kapla -l -S '' -d begun_shown -a begun
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _kapla "$@"
else
    compdef _kapla kapla
fi
"""

_FISH: Final = r"""# Completion of kapla for fish.

function __kapla_complete
    set -l program (commandline -opc)[1]
    set -l token (commandline -ct)
    # What stands behind the = of an option is completed alone, and shown with the option.
    set -l before (string match -r -- '^--[a-z-]+=' $token; or echo)
    set -l path (string replace -r -- '^(--[a-z-]+=)?["\']?' '' $token)
    set -lx _KAPLA_COMPLETE fish_complete
    set -lx _KAPLA_LINE (commandline -cp | string collect)
    for found in ($program 2>/dev/null)
        set -l parts (string split -m 2 \t -- $found)
        switch $parts[1]
            case file
                string join \n -- $before(__fish_complete_path $path)
            case dir
                string join \n -- $before(__fish_complete_directories $path)
            case plain open
                printf '%s%s\t%s\n' "$before" $parts[2] "$parts[3]"
        end
    end
end

complete --command kapla --no-files --keep-order --arguments '(__kapla_complete)'
"""

_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """The script for one of `SHELLS`."""
    return _SCRIPTS[shell]
