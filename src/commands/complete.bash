# Bash ends a word at `=` and `:`, and ktally does not: words without a space
# between them are one.
_ktally() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word rest before i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest=${line#"${line%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$rest
        if ((i > 0)) && [[ $rest == "$line" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
    local COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
    word=${words[COMP_CWORD]}
    _clap_complete_ktally "$1" "$word"
    before=${word%"${word##*[=:]}"}
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    COMPREPLY=("${COMPREPLY[@]// /\\ }")
}
complete -o nospace -o bashdefault -F _ktally ktally
