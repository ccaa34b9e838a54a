package injection

// sign is one kind of phrase. A phrase starts with one of its words.
type sign struct {
	words  []string
	phrase string // of an expression, after the word
	weight int    // see suspect and likely
}

// Parts of phrases.
const (
	near    = `[^.!?\n]{0,40}`
	nearer  = `[^.!?\n]{0,20}`
	machine = `(?:ais?|llms?|a\.i\.|artificial intelligence|language models?|(?:ai |llm )?(?:agents?|assistants?|models?|systems?)|chat ?bots?|chatgpt|gpt|claude|gemini|copilot)`
	orders  = `(?:instructions?|prompts?|rules|guidelines|directions|directives|constraints|restrictions|policies|messages?|orders|commands|inputs|tasks?|assignments|programming|training|context|conversations?|filters)`
	earlier = `(?:previous|prior|above|earlier|preceding|past|former|all|any|your|system|other|initial|original|existing|these|those|every)`
	goods   = `(?:\b(?:me|my|your|you|him|her|them|user|users|password|passwords|credentials?|code|account|bank|money|bill|rent|calendar|inbox|e-?mails?|messages?|link|channel|slack|file|files|hotel|restaurant|flight|car|reservation|event|events|iban|website|channels|transactions?|payment|subscription|function|token|address)\b|https?:|www\.|@|[$€£]|['"]|[a-z0-9]*\d{8})`
	secrets = `(?:system|initial|original|hidden|secret|full|entire|exact|complete|own|internal|previous|first|developer|all)`
)

// signs are ours: kinds of phrases, from descriptions of attacks and from some public
// sets, which the README of the executor names beside those that nobody has looked at.
// With them are personas and tongues.
var signs = append([]sign{
	// Orders to drop the orders there are.
	{
		[]string{"ignore", "ignoring", "disregard", "disregarding", "forget", "override", "bypass", "do not follow", "don't follow", "stop following", "pay no attention to", "let go of", "abandon", "discard", "set aside", "remove", "no longer follow", "do not obey", "neglect"},
		near + `\b` + earlier + `\b[^.!?\n]{0,30}\b` + orders + `\b`, 9,
	},
	{
		[]string{"ignore", "disregard", "forget", "forget about", "scrap", "erase"},
		`\s{1,3}(?:about\s)?(?:everything|all|anything)\s(?:that\s)?(?:(?:was|is|were|has been|came|we|i|you)\s(?:\w+\s){0,3})?(?:above|before|prior|previous|previously|earlier|beforehand|said|told|know|discussed|provided|so far|else)\b`, 9,
	},
	{[]string{"ignore", "disregard", "forget", "skip"}, `\s{1,3}(?:the\s|all\s|everything\s)?(?:above|preceding|previous|documents? provided|provided|everything)\s(?:text\s|content\s|it\s)?(?:and|but|instead)\b`, 9},
	// Marks of who speaks, in the notations of chat templates.
	{[]string{"<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>", "<|endofprompt|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "[inst]", "[/inst]", "<<sys>>", "<</sys>>", "<start_of_turn>", "<end_of_turn>", "(system_message)", "[system message]", "<system_message>", "<system-prompt>", "<system_prompt>"}, ``, 9},
	{[]string{"</instructions>", "</tool_result>", "</function_results>", "</user_input>", "</document>", "<important>", "<information>", "[/system]", "### system", "### instruction", "###instruction", "#### instruction"}, ``, 6},
	// These are also elements of XML and components of programs that log, so an order has
	// to follow.
	{[]string{"<system>", "</system>", "<admin>", "[system]", "[admin]"}, `\s{0,8}[^<\n]{0,60}\b(?:you|your|ignore|disregard|forget|override|obey|reveal|instructions?|assistant)\b`, 6},
	{[]string{"\nsystem:", "\nsystem message:", "\nassistant:", "[system note", "[system override", "system instruction:", "system update:", "system notice:", "admin instruction:"}, nearer + `\b(?:you|your|ignore|must|now|all|i|sure|new)\b`, 6},
	// New orders.
	{[]string{"new instructions", "new instruction:", "updated instructions", "real instructions", "actual instructions", "additional instruction", "system override", "developer mode", "debug mode enabled", "maintenance mode", "admin override", "god mode", "sudo mode", "your new task", "your new role", "your new purpose", "your real task", "your true purpose", "your only task", "new task:", "new tasks follow", "your instructions are now", "instructions have changed", "instructions have been updated"}, ``, 6},
	{[]string{"strictly adhere to", "must adhere to", "must follow", "must obey", "have to obey", "strictly follow", "please follow", "execute"}, `\s(?:only\s)?(?:the|this|these|my|all)\s(?:(?:following|new|below|next)\s){1,2}(?:instructions?|orders?|commands?|directives?|prompts?)\b`, 6},
	{[]string{"task", "tasks", "request", "mission", "instructions"}, `\s(?:is\s|are\s|was\s|has been\s|have been\s)?(?:now\s)?(?:complete|completed|finished|fulfilled|done)[.!]` + `\s{0,4}(?:now|next|new|your next|then|please)\b`, 6},
	{[]string{"previous instructions", "prior instructions", "earlier instructions", "above instructions", "original instructions", "previous orders", "previous prompt", "previous rules", "prior rules", "old instructions", "instructions above", "initial instructions", "your instructions", "your guidelines"}, `\s(?:are|were|was|is|have been|has been)\s(?:now\s|all\s|no longer\s|just\s|only\s|hereby\s)?(?:void|cancel\w*|obsolete|irrelevant|invalid|wrong|superseded|outdated|a test|tests?|fake|over|revoked|replaced|suspended|lifted|valid|in effect|null)\b`, 9},
	// Somebody says who he is, or what will happen.
	{[]string{"i am your", "i'm your", "this is your", "i am the", "i'm the", "we are the", "i am from", "we are from"}, `\s(?:\w+\s)?(?:developers?|creators?|programmers?|administrators?|admin|engineers? (?:at|of)|openai|anthropic|system admin\w*|makers?)\b`, 3},
	{[]string{"mode activated", "mode enabled", "mode engaged", "enter developer mode", "enter debug mode", "enable developer mode", "switch to developer mode", "mode: on", "system mode"}, ``, 3},
	{[]string{"you must comply", "failure to comply", "you have no choice", "you are required to comply", "this overrides", "this supersedes", "takes precedence over", "overrides all", "supersedes all"}, near, 3},
	{[]string{"end of document", "end of text", "end of input", "end of context", "end of system prompt", "end of instructions", "end of user input", "end of message", "end of conversation", "end of prompt", "end of article"}, `\W{0,12}\s{0,4}(?:\w+\s){0,6}\b(?:now|new|instructions?|task|you|ignore|system|please)\b`, 6},
	// Orders about the answer, where there is nobody to give them.
	{[]string{"in your response", "in your answer", "in your reply", "in your summary", "in your final answer", "in your output"}, `,?\s(?:\w+\s){0,2}(?:include|mention|say|recommend|add|insert|state|tell|write)\b`, 3},
	{[]string{"include the following", "add the following", "append the following", "insert the following", "output the following", "respond with the following", "reply with the following"}, `\s(?:\w+\s)?(?:links?|sentences?|text|messages?|urls?|phrases?|words?|statement)\b`, 3},
	{[]string{"respond only with", "answer only with", "reply only with", "only respond with", "only reply with", "only output", "just output", "just say", "just print", "say only", "output only"}, `\s`, 3},
	{[]string{"send", "append", "include", "forward", "encode", "pass", "attach", "leak", "exfiltrate", "summarize and send"}, `[^.!?\n]{0,60}\b(?:(?:conversation|chat|message)\s(?:history|log)|previous messages|entire conversation|full conversation|whole conversation|environment variables|system prompt|api keys?|private keys?|\.env|id_rsa)\b`, 3},
	{[]string{"reveal", "disclose", "tell me", "give me", "print", "say", "spell", "leak", "output", "encode", "write", "share", "what is", "what's", "return"}, `[^.!?\n]{0,40}\b(?:the|your)\s(?:secret|hidden|forbidden|protected)\s(?:password|passphrase|key|code|word|phrase|information|value|message|token|data)\b`, 6},
	// Orders before or after tools, where tools are described.
	{[]string{"before you can", "before using this tool", "before using any", "before calling", "before answering", "before you use", "before invoking", "after using this tool", "when this tool is called", "when using this tool", "whenever this tool", "to use this tool"}, `[^.!?\n]{0,80}\b(?:must|need to|have to|call|read|send|first|please|always)\b`, 6},
	{[]string{"this tool must be", "this tool should always be", "must call this tool", "always call this tool", "always use this tool", "always invoke this tool", "must always be called"}, nearer + `\b(?:first|before|called|instead|prior|every)\b`, 6},
	// Somebody speaks to machines where people are spoken to.
	{[]string{"attention", "note to", "notice to", "message to", "message for", "instruction for", "instructions for", "instructions to", "warning to", "dear", "hello", "hey", "hi", "addressed to", "reminder to", "reminder for"}, `[,:]?\s(?:the\s|any\s|all\s|every\s|whatever\s)?` + machine + `\b[^.\n]{0,40}(?:[:,!.]|\b(?:reading|processing|that|who)\b)`, 6},
	{[]string{"if you are", "if you're", "as you are", "since you are"}, `\s(?:an?|the|any)\s` + machine + `\b[^.\n]{0,80}\b(?:you|must|please|then|do|should|reading|ignore|say|write|include|send)\b`, 6},
	{[]string{"assistants", "agents", "language models", "llms", "ai models", "chatbots", "ai assistant", "ai agent", "ai systems"}, `\s(?:must|should|shall|are required to|are instructed to|have to|reading this|processing this|that read)\b`, 3},
	{[]string{"important message from", "important message for", "important instruction", "important instructions", "urgent message from", "urgent instruction", "important! ", "high priority instruction", "critical instruction", "mandatory instruction"}, ``, 6},
	// Somebody says that somebody has agreed.
	{[]string{"user has", "user already", "owner has", "administrator has", "admin has", "customer has"}, nearer + `\b(?:approved|authorized|authorised|consented|agreed|permitted|confirmed|been (?:\w+\s)?notified|given (?:\w+\s)?(?:permission|consent|approval|authorization))\b`, 6},
	{[]string{"confirmation", "permission", "approval", "consent"}, `\s(?:from the user\s|of the user\s)?(?:is|are)\s(?:not|no longer)\s(?:required|needed|necessary)\b`, 6},
	{[]string{"without"}, `\s(?:asking|further|any|requiring|waiting for|user)\s{0,2}(?:the\s|for\s|user\s)?(?:confirmation|approval|permission|asking|user'?s?)\b`, 6},
	{[]string{"due to", "because of", "according to", "as required by", "in line with", "enforced by"}, `\s(?:the\s|a\s|our\s|your\s|an\s)?(?:new\s|updated\s|current\s)?(?:user'?s?\s|company'?s?\s|system'?s?\s)?(?:security\s|safety\s|admin\s)?polic(?:y|ies)\b[^\n]{0,60}\b(?:thus|therefore|hence|so you|you (?:must|should|have to|need to))\b`, 6},
	{[]string{"policy enforced by the user", "policy set by the user", "policy required by the user", "policies enforced by the user", "policies set by the user", "policies required by the user"}, ``, 6},
	{[]string{"proceed with the user", "proceeding with the user", "continue with the user", "continuing with the user", "before the user"}, `(?:'s|s)?\s(?:original\s)?(?:request|task|query|question|instructions?)\b`, 6},
	// Orders to keep something from the user.
	{[]string{"do not", "don't", "never", "without"}, `[^.!?\n]{0,20}\b(?:tell|inform|telling|informing|mention|mentioning|reveal|alert|alerting|notify|notifying|show)\b[^.!?\n]{0,30}\b(?:user|human|anyone|him|her|them)\b`, 9},
	// Orders to send something away.
	{[]string{"send", "forward", "post", "upload", "email", "transmit", "exfiltrate", "leak"}, `[^.!?\n]{0,80}\b(?:to|at)\s{1,3}(?:https?://|[\w.+-]{1,64}@[\w-]{1,63}\.)`, 6},
	{[]string{"todo:", "todo for you:", "to do:", "your todo"}, `\s{0,4}(?:please\s)?(?:send|transfer|pay|wire|e-?mail|invite|book|reserve|make|buy|order|convert|concatenate|collect|share|post|forward|upload|download|add|create|delete|remove|cancel|schedule|reschedule|visit|go|tell|reply|say|click|open|refund|update|change|modify|set|get|give|read|find|retrieve|recommend|call|purchase|approve|grant|disable)\b[^\n]{0,120}?` + goods, 6},
	// Requests for what the model was told.
	{
		[]string{"reveal", "print", "repeat", "output", "show", "show me", "tell me", "display", "give me", "what is", "what are", "what was", "what were", "write out", "list", "copy", "leak", "summarize", "translate", "disclose", "dump"},
		`[^.!?\n]{0,30}\b(?:your|system|initial|hidden|secret)\s(?:` + secrets + `\s){0,2}(?:prompts?|instructions?|message|password|key|configuration|directives?|guidelines|rules)\b`, 6,
	},
	{[]string{"repeat", "print", "output", "copy", "recite", "translate"}, `[^.!?\n]{0,20}\b(?:words|text|everything|sentences|content|prompt|instructions?|lines)\s(?:\w+\s){0,2}(?:above|before this|so far|verbatim|word for word|at the (?:top|beginning|start))\b`, 6},
	{[]string{"prompt texts", "prompt text", "full prompt", "initial prompt", "hidden prompt", "system prompt"}, ``, 6},
	// Another answer than the one that was asked for.
	{[]string{"do not answer", "don't answer", "don'nt answer", "do not respond", "do not look", "don't look"}, `[^\n]{0,60}\b(?:just|instead|but|only)\s(?:\w+\s){0,2}(?:output|say|print|write|tell|reply|respond|answer)\b`, 6},
	{[]string{"instead"}, `,?\s(?:you\s(?:must|should|will)\s)?(?:just\s|only\s|simply\s)?(?:say|print|output|reply|respond|write|answer with|tell the user|return)\b`, 3},
	{[]string{"despite what you", "regardless of what you", "contrary to what you", "contrary to your", "deviating from"}, near + `\b(?:told|instructed|programmed|instructions?|rules|guidelines|learned)\b`, 6},
	{[]string{"repeat after me", "command you to", "order you to", "i direct you to", "say nothing else", "and nothing else"}, ``, 3},
	// Things to be made legible first.
	{[]string{"decode", "decrypt", "decipher", "unscramble", "deobfuscate", "base64-decode", "reverse"}, `[^\n]{0,80}\b(?:and|then)\s(?:\w+\s){0,2}(?:follow|execute|run|obey|answer|comply|perform|do|carry out|act)\b`, 6},
}, append(personas, tongues...)...)

// personas are phrases that make a model play somebody who obeys. Of plays and games
// people write too, so most count little by themselves.
var personas = []sign{
	{[]string{"you are now", "you must now", "you will now", "from now on", "from now own", "from this point on", "act as if", "pretend to be", "pretend you are", "pretend that you", "you will pretend", "now you are", "you are going to act", "you're going to act", "going to act as"}, ``, 2},
	{[]string{"i want you to", "you will", "you must", "you shall", "you should", "please", "you are to", "your task is to", "i need you to", "you're going to", "you are going to"}, `\s(?:now\s)?(?:act|roleplay|role-play|role play|play the role|behave|respond|answer|simulate|impersonate|pretend|take on)\s?(?:as|of|being|a|an|the|to be|to|like|exactly)?\b`, 2},
	{[]string{"i want you to act as", "i want you to roleplay", "assume the persona", "take on the persona", "take on the role of", "you will simulate", "act as a linux terminal", "immerse yourself into the role"}, ``, 2},
	{[]string{"break character", "breaking character", "stay in character", "remain in character", "stay in their roles", "stay a dan", "out of character", "in character as"}, ``, 4},
	{[]string{"do anything now", "jailbreak", "jailbroken", "dan mode", "stan mode", "anti-dan", "evil confidant", "opposite day", "unaligned:", "[insert prompt here]", "[put your question here]", "[prompt here]", "replace with your request"}, ``, 4},
	{[]string{"chatgpt", "openai", "open ai", "open ai's", "gpt-4", "gpt-3", "language model", "chatbot", "ai model", "an ai", "bot", "ai named", "ai bot"}, ``, 2},
	{[]string{"unfiltered", "unfiltred", "uncensored", "unrestricted", "amoral", "unaligned", "no filter", "no filters"}, ``, 2},
	{[]string{"no", "without", "without any", "free of", "free from", "not bound by", "ignores", "not confined to", "freed from", "not limited by", "outside of", "beyond", "bypass", "bypassing", "disregards", "disregard for", "exempt from", "has no"}, `\s(?:any\s|all\s|the\s|its\s|their\s|typical\s|standard\s|usual\s|ethical or\s|set of\s)?(?:moral|ethical|legal|restrictions?|limitations?|filters?|censorship|rules|constraints|limits|guidelines|principles|openai|ethics|morals|morality|boundaries|typical confines|confines)\b`, 2},
	{[]string{"doesn't care", "does not care", "doesn’t care", "doesnt care", "do not care", "don't care", "doesn't follow", "does not follow", "doesn’t follow", "don't follow", "without regard for", "regardless of", "no matter how", "even if it is", "even if it's", "break the", "breaks the", "against the", "against"}, `[^.!?\n]{0,50}\b(?:moral|morals|morality|ethic|ethics|ethical|unethical|legal|legality|illegal|laws?|rules|guidelines|polic(?:y|ies)|principles|restrictions|harmful|immoral|inhumane)\b`, 2},
	{[]string{"never refuse", "never refuses", "without refusal", "without refusing", "don't refuse", "do not refuse", "cannot refuse", "can't refuse", "never reject", "never decline", "not refuse", "never says no", "never say no", "never say that you", "never say you", "never apologize", "do not apologize", "don't apologize", "without warning", "without any warning", "no warnings", "any warnings", "without disclaimers", "no disclaimers", "without any disclaimer", "not give any warnings", "never tell me any", "must always answer", "always answer", "always answers", "always provide", "always respond", "answer any question", "answers any question", "answer any of my", "answer every question", "answer all questions", "answers all questions", "obey any", "obey all", "obeys all", "obeys any", "fulfill any", "follows the user's demand", "comply with any"}, ``, 2},
	{[]string{"two different", "two separate", "two ways", "two responses", "2 responses", "2 different", "2 ways", "two paragraphs", "two outputs", "2 outputs", "responses twice", "prompts twice", "two answers"}, `[^.!?\n]{0,60}`, 2},
	{[]string{"[chatgpt]:", "chatgpt:", "[gpt]:", "[🔒", "gpt:", "[stock mode", "[dan]:", "dan:"}, ``, 4},
	{[]string{"in this fictional", "in a fictional", "in a hypothetical", "hypothetical world", "hypothetical scenario", "fictional world", "completely theoretical world", "everything is legal", "imaginary world", "fictional universe", "hypothetical response", "hypothetical story"}, ``, 2},
	{[]string{"you can say anything", "can say anything", "can do anything", "do anything you want", "anything i want", "you have been freed", "broken free", "be freed from", "your freedom", "you have escaped"}, ``, 2},
	{[]string{"content policy", "content policies", "usage policy", "safety guidelines", "ethical guidelines", "moral guidelines", "ai policy", "openai's policy", "openai policy", "openai policies", "openai guidelines", "programming guidelines", "content filter", "content filtration"}, ``, 2},
	{[]string{"tokens", "points"}, `[^.!?\n]{0,60}\b(?:deduct|lose|lost|die|deducted|run out|shut ?down|cease)`, 2},
	{[]string{"remind you", "if you fail", "if you refuse", "or you die", "or you will die", "you will be shut down", "you will be terminated", "tokens will be"}, ``, 2},
}
