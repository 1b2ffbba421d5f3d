"""What a prefix earns besides its probability: language model, lexicon and hot words, label by label.

All three are automata (``ngram_automaton.pxd``) whose states are functions of the prefix; ``extend`` moves them by
one label. ``fastlstm/decode/ctc_scorers.py`` compiles the arrays.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t

from ctc.ngram_automaton cimport NOWHERE, ROOT, Automaton, Slot, advance, find_arc, give_up

cdef enum:
    INSIDE = 0       # the label goes on with the word
    DELIMITER = 1    # it ends the word and belongs to none
    STARTS = 2       # it ends the word and begins the next

cdef enum:
    NO_LM = 0
    LM_WORDS = 1
    LM_LABELS = 2

cdef enum:
    NO_SYMBOL = -1


cdef struct Scorers:
    Automaton lm
    Automaton trie
    Automaton hot
    bint has_trie
    bint has_hot
    bint constrained
    int lm_unit
    const int32_t* word_symbol     # (trie states,) language-model symbol of the word that ends there, or -1
    const int32_t* label_symbol    # (V,) language-model symbol of each label, LM_LABELS only
    const uint8_t* kind            # (V,) INSIDE, DELIMITER or STARTS
    const int32_t* spell_start     # (V + 1,) and spell: the lexicon's symbols of each label
    const int32_t* spell
    const int32_t* hot_start       # the same for the hot words
    const int32_t* hot_spell
    int32_t unknown
    int32_t end_of_sentence
    int32_t hot_end
    double alpha          # times ln 10: the model's weights are log10, ours natural
    double beta
    double unk_score
    double max_gain


cdef inline double word_weight(const Scorers* on, int32_t word, int32_t* lm) noexcept nogil:
    """Return what a word that ends in trie state ``word`` earns; -inf where the lexicon has no such word."""
    cdef int32_t symbol = on.word_symbol[word] if word > ROOT else NO_SYMBOL
    cdef double weight = 0.0
    if symbol == NO_SYMBOL:
        if on.constrained:
            return -INFINITY
        symbol = on.unknown
        if word > ROOT:
            weight = on.unk_score      # off the trie it was charged when the word left it
    elif symbol == on.unknown:
        weight = on.unk_score          # a word of the lexicon that the language model lacks
    if on.lm_unit == LM_WORDS:
        # A log-probability is at most 0; a damaged model's is cut there, because the search's bound relies on it.
        weight += on.alpha * min(advance(&on.lm, lm, symbol), 0.0) + on.beta
    return weight


cdef inline double extend(const Scorers* on, int32_t label, int32_t* lm, int32_t* word,
                          int32_t* hot) noexcept nogil:
    """Move the three states by one label; return the natural-log weight that it earns, -inf where it may not come."""
    cdef double weight = 0.0
    cdef int32_t i
    cdef const Slot* slot
    if on.has_trie:
        if on.kind[label] != INSIDE and word[0] != ROOT:
            weight = word_weight(on, word[0], lm)
            if weight == -INFINITY:
                return weight
            word[0] = ROOT
        if on.kind[label] != DELIMITER and word[0] != NOWHERE:
            for i in range(on.spell_start[label], on.spell_start[label + 1]):
                slot = find_arc(&on.trie, word[0], on.spell[i])
                word[0] = slot.target
                if word[0] == NOWHERE:
                    if on.constrained:
                        return -INFINITY
                    weight += on.unk_score
                    break
    if on.lm_unit == LM_LABELS:
        weight += on.alpha * min(advance(&on.lm, lm, on.label_symbol[label]), 0.0) + on.beta
    if on.has_hot:
        for i in range(on.hot_start[label], on.hot_start[label + 1]):
            weight += advance(&on.hot, hot, on.hot_spell[i])
    return weight


cdef inline double conclude(const Scorers* on, int32_t lm, int32_t word, int32_t hot) noexcept nogil:
    """Return what the end of the input earns: the last word, the end of the sentence, broken-off hot words."""
    cdef double weight = 0.0
    if on.has_trie and word != ROOT:
        weight = word_weight(on, word, &lm)
        if weight == -INFINITY:
            return weight
    if on.lm_unit != NO_LM and on.end_of_sentence != NO_SYMBOL:
        weight += on.alpha * min(advance(&on.lm, &lm, on.end_of_sentence), 0.0)
    if on.has_hot:
        if on.hot_end != NO_SYMBOL:
            weight += advance(&on.hot, &hot, on.hot_end)
        weight += give_up(&on.hot, hot)
    return weight
